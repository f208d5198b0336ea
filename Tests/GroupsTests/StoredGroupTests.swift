// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Groups
import Testing

struct StoredGroupTests {
    static func stored() throws -> StoredGroup {
        var harness = GroupHarness()
        _ = harness.stabilize([
            GroupHarness.request(instance: "é", protocols: ["a", "b"]), GroupHarness.request(protocols: ["b", "a"]),
        ])
        return try #require(harness.disk)
    }

    @Test func bytesComeBackAsTheSameGroup() throws {
        let group = try Self.stored()
        #expect(group.members.count == 2)
        #expect(group.reservedThrough > group.generation)
        #expect(try StoredGroup(decoding: group.encode()) == group)
        var empty = StoredGroup(protocolType: "", generation: 7)
        empty.reservedThrough = 9
        empty.emptySince = 1_700_000_000_000
        #expect(try StoredGroup(decoding: empty.encode()) == empty)
    }

    @Test func cutBytesAreRefused() throws {
        let bytes = try Self.stored().encode()
        for length in bytes.indices {
            #expect(throws: StoredGroup.DecodingError.self) { try StoredGroup(decoding: Array(bytes[..<length])) }
        }
        #expect(throws: StoredGroup.DecodingError.malformed) { try StoredGroup(decoding: bytes + [0]) }
    }

    @Test func flippedBytesNeverTrap() throws {
        let bytes = try Self.stored().encode()
        for index in bytes.indices {
            for bit in 0..<8 {
                var damaged = bytes
                damaged[index] ^= 1 << bit
                // Either refused or another group: the store's checksum tells the two apart, this decoder must only not trap.
                guard let group = try? StoredGroup(decoding: damaged) else { continue }
                #expect(group.generation >= 0 && group.reservedThrough >= group.generation)
            }
        }
    }

    @Test func newerVersionsAreRefusedByName() throws {
        var bytes = try Self.stored().encode()
        bytes[0] = 2
        #expect(throws: StoredGroup.DecodingError.unknownVersion(2)) { try StoredGroup(decoding: bytes) }
    }

    @Test func membersGoOnAfterARestartWithoutARebalance() {
        var harness = GroupHarness()
        let ids = harness.stabilize([GroupHarness.request(), GroupHarness.request(instance: "i")])
        let generation = harness.group.generation
        let before = harness.group.description
        harness.restart()
        #expect(harness.group.description == before)
        #expect(harness.heartbeat(ids[0], generation) == nil)
        #expect(harness.heartbeat(ids[1], generation) == nil)
        #expect(harness.commit(ids[0], generation) == nil)
        #expect(harness.syncs[harness.sync(ids[1], generation)]?.assignment == [1])
        let caller = harness.join(GroupHarness.request(instance: "i"))
        #expect(harness.joins[caller]?.generation == generation)
        harness.pass(.seconds(10))
        #expect(harness.group.state == .empty)
    }

    @Test func generationsAreNotGivenOutTwice() throws {
        var harness = GroupHarness()
        var told: Set<Int32> = []
        let ids = harness.stabilize([GroupHarness.request()])
        for round in 0..<5 {
            let kept = harness.group.generation
            // Rebalances whose assignment never comes to disk, then a crash.
            for _ in 0..<(round * 60) {
                let caller = harness.join(GroupHarness.request(ids[0], topics: ["\(harness.group.generation)"]))
                let answer = try #require(harness.joins[caller])
                #expect(told.insert(answer.generation).inserted)
            }
            harness.restart()
            #expect(harness.group.generation == kept)
            let caller = harness.join(GroupHarness.request(ids[0], topics: ["new \(round)"]))
            let answer = try #require(harness.joins[caller])
            #expect(told.insert(answer.generation).inserted)
            #expect(answer.generation > (told.subtracting([answer.generation]).max() ?? 0))
            _ = harness.sync(ids[0], answer.generation)
            #expect(harness.group.state == .stable)
        }
    }

    @Test func joinsWaitForTheReservationOfTheirGeneration() {
        var harness = GroupHarness()
        harness.writesAtOnce = false
        let caller = harness.join(GroupHarness.request())
        #expect(harness.joins[caller] == nil)
        #expect(harness.unwritten.count == 1)
        harness.write(succeeded: false)
        #expect(harness.joins[caller]?.error == .coordinatorNotAvailable)
        let again = harness.join(GroupHarness.request("m1"))
        #expect(harness.joins[again] == nil)
        harness.write()
        #expect(harness.joins[again]?.generation == 1)
    }

    @Test func anEmptyGroupStaysEmptyAndKeepsItsAge() {
        var harness = GroupHarness()
        let id = harness.stabilize([GroupHarness.request()])[0]
        _ = harness.leave(GroupLeave.Member(memberID: id))
        let since = harness.group.emptySince
        let generation = harness.group.generation
        harness.restart()
        #expect(harness.group.state == .empty)
        #expect(harness.group.emptySince == since)
        let caller = harness.join(GroupHarness.request())
        #expect((harness.joins[caller]?.generation ?? 0) > generation)
    }
}
