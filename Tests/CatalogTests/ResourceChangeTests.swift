// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import Foundation
import MartletCore
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(5))) struct ResourceChangeTests {
    private final class Seen: Sendable {
        private let changes = Mutex<[String]>([])
        var all: [String] { changes.withLock { $0 } }

        func add(_ change: ResourceChange) {
            let action = change.before == nil ? "made" : change.after == nil ? "removed" : "changed"
            changes.withLock { $0.append("\(change.kind.noun) \(change.name) \(action) of \(change.owner)") }
        }
    }

    private struct Stop: Error {}

    @Test func changesAreToldInOrderOnceTheyAreStored() async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "martlet-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let seen = Seen()
        let catalog = try Catalog.open(
            path: folder.appending(path: "catalog.sqlite").path,
            observer: { seen.add($0) }
        )
        let owner = CatalogFixture.owner
        _ = try await catalog.topics.create(name: "a", owner: owner, spec: TopicSpec(partitions: 1))
        try await catalog.transaction { tx in
            _ = try tx.create(name: "b", owner: owner, spec: TopicSpec(partitions: 1))
            try tx.update(TopicSpec.self, "a") { $0.spec.partitions = 2 }
        }
        // What is not stored did not happen.
        _ = try await catalog.rehearsal { try $0.delete(TopicSpec.self, "a") }
        await #expect(throws: Stop.self) {
            try await catalog.transaction { tx in
                try tx.delete(TopicSpec.self, "a")
                throw Stop()
            }
        }
        try await catalog.topics.update("b") { $0.metadata.description = "x" }
        try await catalog.topics.delete("a")
        let name = owner.name
        #expect(
            seen.all == [
                "topic a made of \(name)", "topic b made of \(name)", "topic a changed of \(name)",
                "topic b changed of \(name)", "topic a removed of \(name)",
            ]
        )
        try catalog.close()
    }
}
