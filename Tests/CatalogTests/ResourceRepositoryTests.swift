// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import Foundation
import MartletCore
import Testing

@Suite(.timeLimit(.minutes(5)))
struct ResourceRepositoryTests {
    @Test func storesWhatWasGiven() async throws {
        let fixture = try CatalogFixture()
        let spec = TopicSpec(partitions: 7, retentionMilliseconds: nil, retentionBytes: 1 << 40, isDefault: true)
        let made = try await fixture.catalog.topics.create(
            name: "events",
            description: "Süße \"Ereignisse\"\n",
            tags: ["a", "b c"],
            owner: CatalogFixture.owner,
            spec: spec
        )
        let found = try await fixture.catalog.topics.get("events")
        #expect(found.metadata == made.metadata)
        #expect(found.spec == spec)
        #expect(found.metadata.tags == ["a", "b c"])
        #expect(found.metadata.vrn == "vast:dataengine:topics:events")
        #expect(found.metadata.createdAt == found.metadata.updatedAt)
        #expect(UUID(uuidString: found.guid) != nil && found.guid == found.guid.lowercased())
        #expect(Timestamp.microseconds(found.metadata.createdAt) > 1_700_000_000_000_000)
    }

    @Test(arguments: [
        "events", "vast:dataengine:topics:events", "vast:dataengine:topic:broker/events", "martlet:topics:events", "1",
    ])
    func findsBy(id: String) async throws {
        let fixture = try CatalogFixture()
        let made = try await fixture.topic("events")
        #expect(try await fixture.catalog.topics.get(id).guid == made.guid)
        #expect(try await fixture.catalog.topics.get(made.guid.uppercased()).guid == made.guid)
    }

    @Test(arguments: ["event", "vast:dataengine:views:events", "2", "", "99999999999999999999"])
    func saysWhatItDoesNotFind(id: String) async throws {
        let fixture = try CatalogFixture()
        try await fixture.topic("events")
        #expect(try await fixture.catalog.topics.find(id) == nil)
        let error = try await serviceError { _ = try await fixture.catalog.topics.get(id) }
        #expect(error?.code == .notFound)
        #expect(error?.message == "no topic named '\(id)'")
    }

    @Test func refusesASecondOfTheSameName() async throws {
        let fixture = try CatalogFixture()
        try await fixture.topic("t")
        try await fixture.view("t")
        let error = try await serviceError { try await fixture.topic("t") }
        #expect(error?.code == .alreadyExists)
        #expect(error?.fields.first?.field == "name")
        #expect(try await fixture.catalog.topics.all().count == 1)
    }

    @Test func numbersAreNotUsedAgain() async throws {
        let fixture = try CatalogFixture()
        let first = try await fixture.topic("a")
        try await fixture.catalog.topics.delete("a")
        let second = try await fixture.topic("a")
        #expect(second.metadata.id > first.metadata.id)
        #expect(second.guid != first.guid)
    }

    @Test func updatesSpecAndMetadataButNotTheName() async throws {
        let fixture = try CatalogFixture()
        let made = try await fixture.topic("t")
        let changed = try await fixture.catalog.topics.update("t") { topic in
            topic.metadata.description = "new"
            topic.metadata.tags = ["x"]
            topic.metadata.guid = "ignored"
            topic.spec.retentionBytes = 5
        }
        #expect(changed.guid == made.guid)
        #expect(changed.metadata.updatedAt > made.metadata.updatedAt)
        let found = try await fixture.catalog.topics.get(made.guid)
        #expect(found.metadata == changed.metadata)
        #expect(found.spec.retentionBytes == 5)
        let error = try await serviceError { try await fixture.catalog.topics.update("t") { $0.metadata.name = "u" } }
        #expect(error?.code == .invalid)
        #expect(error?.fields.first?.field == "name")
    }

    @Test func aFailingUpdateChangesNothing() async throws {
        struct Stop: Error {}
        let fixture = try CatalogFixture()
        let made = try await fixture.topic("t")
        await #expect(throws: Stop.self) {
            try await fixture.catalog.topics.update("t") { topic in
                topic.spec.partitions = 99
                throw Stop()
            }
        }
        #expect(try await fixture.catalog.topics.get("t").spec == made.spec)
    }

    @Test func pagesThroughALongList() async throws {
        let fixture = try CatalogFixture()
        for index in 0..<25 { try await fixture.topic("topic-\(index)") }
        var names: [String] = []
        var query = ListQuery(limit: 10)
        var pages = 0
        repeat {
            let page = try await fixture.catalog.topics.list(query)
            names += page.items.map(\.name)
            query.cursor = page.nextCursor
            pages += 1
            if pages == 1 { try await fixture.catalog.topics.delete("topic-3") }
        } while query.cursor != nil
        #expect(pages == 3)
        #expect(names == (0..<25).map { "topic-\($0)" })
        let exact = try await fixture.catalog.topics.list(ListQuery(limit: 24))
        #expect(exact.items.count == 24 && exact.nextCursor == nil)
        let filtered = try await fixture.catalog.topics.list(ListQuery(name: "-2", limit: 3))
        #expect(filtered.items.map(\.name) == ["topic-2", "topic-20", "topic-21"])
        #expect(filtered.nextCursor != nil)
        #expect(try await fixture.catalog.topics.list(ListQuery(name: "%")).items.isEmpty)
    }

    @Test func refusesForeignCursorsAndLimits() async throws {
        let fixture = try CatalogFixture()
        for index in 0..<3 { try await fixture.view("v\(index)") }
        let cursor = try await fixture.catalog.views.list(ListQuery(limit: 1)).nextCursor
        for bad in [cursor, "x", "", "dG9waWNzOi01", "\u{1F600}"] {
            let error = try await serviceError {
                _ = try await fixture.catalog.topics.list(ListQuery(cursor: bad))
            }
            #expect(error?.fields.first?.field == "cursor")
        }
        for limit in [0, -1, 1001, Int.max] {
            let error = try await serviceError { _ = try await fixture.catalog.topics.list(ListQuery(limit: limit)) }
            #expect(error?.fields.first?.field == "limit")
        }
    }
}
