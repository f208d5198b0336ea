// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import Foundation
import MartletCore
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(5)))
struct ElementInventoryTests {
    private final class Fixture: Sendable {
        let directory: String
        let inventory: ElementInventory

        init() throws {
            directory =
                FileManager.default.temporaryDirectory.appendingPathComponent("martlet-inventory-\(UUID().uuidString)")
                .path
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
            inventory = try ElementInventory.open(path: directory + "/inventory.sqlite")
        }

        deinit {
            try? inventory.close()  // A test may have closed it.
            try? FileManager.default.removeItem(atPath: directory)  // Only a leftover in the temporary folder.
        }
    }

    private static func element(_ key: String, version: Int64 = 1, tags: [String: String] = [:]) -> InventoryElement {
        InventoryElement(
            key: key,
            inode: UInt64.max,
            sizeBytes: 1 << 40,
            modifiedNanos: 1_775_000_000_123_456_789,
            changedNanos: -1,
            tags: tags,
            version: version
        )
    }

    @Test func keepsElementsAsTheyWere() async throws {
        let fixture = try Fixture()
        let elements = [
            Self.element("a\nb", tags: ["k\"1": "v\u{0}", "z": "ü"]), Self.element("ä/1"),
            Self.element("é", version: .max),
        ]
        try await fixture.inventory.apply(view: "v", upserts: elements)
        #expect(
            try await fixture.inventory.elements(view: "v", limit: 10)
                == elements.sorted { Array($0.key.utf8).lexicographicallyPrecedes(Array($1.key.utf8)) }
        )
        #expect(try await fixture.inventory.element(view: "v", key: "ä/1") == elements[1])
        #expect(try await fixture.inventory.element(view: "w", key: "ä/1") == nil)
    }

    @Test func appliesRemovalsUpsertsAndCheckpointsTogether() async throws {
        let fixture = try Fixture()
        let inventory = fixture.inventory
        try await inventory.apply(view: "v", upserts: [Self.element("a"), Self.element("b")])
        let checkpoints = [
            InventoryCheckpoint(triggerGuid: "g", topic: "t", partition: 0, offset: 5),
            InventoryCheckpoint(triggerGuid: "g", topic: "t", partition: 1, offset: 6),
        ]
        try await inventory.apply(
            view: "v",
            upserts: [Self.element("a", version: 2)],
            removals: ["a", "b", "c"],
            checkpoints: checkpoints
        )
        #expect(try await inventory.elements(view: "v", limit: 10).map(\.version) == [2])
        #expect(try await inventory.checkpoints(view: "v") == checkpoints)
        try await inventory.apply(
            view: "v",
            checkpoints: [InventoryCheckpoint(triggerGuid: "g", topic: "t", partition: 1, offset: 9)]
        )
        #expect(try await inventory.checkpoints(view: "v").map(\.offset) == [5, 9])
        try await inventory.apply(view: "w", upserts: [Self.element("a")])
        try await inventory.removeView("v")
        #expect(try await inventory.count(view: "v") == 0)
        #expect(try await inventory.checkpoints(view: "v").isEmpty)
        #expect(try await inventory.count(view: "w") == 1)
    }

    @Test func listsByExactPrefixInPages() async throws {
        let fixture = try Fixture()
        let keys = [
            "alice", "alice-outside/x", "alice/", "alice/1", "alice/2", "alice/3", "alicf", "b%_", "b%_/1",
            "\u{10FFFF}x", "\u{D7FF}1",
        ]
        try await fixture.inventory.apply(view: "v", upserts: keys.map { Self.element($0) })
        func list(_ prefix: String, after: String? = nil, limit: Int = 100) async throws -> [String] {
            try await fixture.inventory.elements(view: "v", prefix: prefix, after: after, limit: limit).map(\.key)
        }
        #expect(try await list("alice/") == ["alice/", "alice/1", "alice/2", "alice/3"])
        #expect(try await list("alice/", after: "alice/1", limit: 1) == ["alice/2"])
        #expect(try await list("b%") == ["b%_", "b%_/1"])
        #expect(try await list("\u{10FFFF}") == ["\u{10FFFF}x"])
        #expect(try await list("\u{D7FF}") == ["\u{D7FF}1"])
        #expect(try await list("zzz").isEmpty)
        #expect(try await list("").count == keys.count)
    }

    @Test func walksAHundredThousandElements() async throws {
        let fixture = try Fixture()
        for start in stride(from: 0, to: 100_000, by: 20_000) {
            let elements = (start..<start + 20_000).map { Self.element("dir/\(100_000 + $0)") }
            try await fixture.inventory.apply(view: "v", upserts: elements)
        }
        let seen = Mutex((count: 0, last: "", isSorted: true))
        try await fixture.inventory.forEach(view: "v") { element in
            seen.withLock { state in
                state.count += 1
                if element.key <= state.last { state.isSorted = false }
                state.last = element.key
            }
        }
        #expect(seen.withLock { $0.count } == 100_000)
        #expect(seen.withLock { $0.isSorted })
        struct Stop: Error {}
        await #expect(throws: Stop.self) {
            try await fixture.inventory.forEach(view: "v") { _ in throw Stop() }
        }
    }
}
