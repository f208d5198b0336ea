// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import MartletCore
import Testing

@Suite(.timeLimit(.minutes(5)))
struct ReferenceTests {
    @Test func refusesToDeleteWhatIsUsedAndListsTheUsers() async throws {
        let fixture = try CatalogFixture()
        try await fixture.topic("t")
        try await fixture.view("v")
        for name in ["one", "two"] {
            _ = try await fixture.catalog.triggers.create(
                name: name,
                owner: CatalogFixture.owner,
                spec: CatalogFixture.trigger(view: "v", topic: "t")
            )
        }
        let error = try await serviceError { try await fixture.catalog.topics.delete("t") }
        #expect(error?.code == .inUse)
        #expect(error?.message == "the topic 't' is in use by trigger 'one', trigger 'two'")
        #expect(error?.fields.map(\.field) == ["triggers/one", "triggers/two"])
        #expect(try await fixture.catalog.topics.find("t") != nil)
        try await fixture.catalog.triggers.delete("one")
        try await fixture.catalog.triggers.delete("two")
        try await fixture.catalog.topics.delete("t")
        #expect(try await fixture.catalog.topics.find("t") == nil)
    }

    @Test func refusesToReferToWhatIsMissing() async throws {
        let fixture = try CatalogFixture()
        try await fixture.topic("t")
        let error = try await serviceError {
            _ = try await fixture.catalog.triggers.create(
                name: "one",
                owner: CatalogFixture.owner,
                spec: CatalogFixture.trigger(view: "gone", topic: "t")
            )
        }
        #expect(error?.code == .notFound)
        #expect(error?.message == "the trigger 'one' needs the view 'gone', which does not exist")
        #expect(try await fixture.catalog.triggers.all().isEmpty)
        try await fixture.catalog.topics.delete("t")
    }

    @Test func namesEverythingThatIsMissing() async throws {
        let fixture = try CatalogFixture()
        let error = try await serviceError {
            _ = try await fixture.catalog.triggers.create(
                name: "one",
                owner: CatalogFixture.owner,
                spec: CatalogFixture.trigger(view: "gone", topic: "away")
            )
        }
        #expect(error?.code == .notFound)
        #expect(error?.message.hasPrefix("the trigger 'one' needs 2 things that do not exist: ") == true)
        #expect(error?.message.contains("the view 'gone'") == true)
        #expect(error?.message.contains("the topic 'away'") == true)
        #expect(error?.fix?.contains("martlet views list") == true)
        #expect(error?.fix?.contains("martlet topics list") == true)
    }

    @Test func followsAChangedReference() async throws {
        let fixture = try CatalogFixture()
        try await fixture.topic("old")
        try await fixture.topic("new")
        try await fixture.view("v")
        _ = try await fixture.catalog.triggers.create(
            name: "one",
            owner: CatalogFixture.owner,
            spec: CatalogFixture.trigger(view: "v", topic: "old")
        )
        let missing = try await serviceError {
            try await fixture.catalog.triggers.update("one") { $0.spec.topicName = "none" }
        }
        #expect(missing?.code == .notFound)
        try await fixture.catalog.triggers.update("one") { $0.spec.topicName = "new" }
        try await fixture.catalog.topics.delete("old")
        let error = try await serviceError { try await fixture.catalog.topics.delete("new") }
        #expect(error?.code == .inUse)
        #expect(try await fixture.catalog.topics.users(of: "new") == [ResourceReference(kind: .triggers, name: "one")])
    }
}
