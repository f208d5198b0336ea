// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Glibc
import KafkaCodec
import Testing
import Transactions

@Suite(.timeLimit(.minutes(5)))
struct TransactionCoordinatorTests {
    private static let partitions = [p(0), p(1)]
    private static let timeout: Int32 = 60_000

    private static func begin(_ stand: Stand, _ id: String = "x") async throws -> ProducerIdentity {
        try await stand.coordinator.initProducerID(transactionalID: id, timeoutMilliseconds: timeout)
    }

    private static func code(_ body: () async throws -> Void) async -> TransactionError.Code? {
        do {
            try await body()
            return nil
        } catch {
            return (error as? TransactionError)?.code
        }
    }

    @Test func openTransactionsShareOneBound() async throws {
        try await withStand { stand in
            let coordinator = TransactionCoordinator(
                log: stand.log,
                settings: TransactionSettings(statesBytesMax: 5000),
                logger: quietLogger
            )
            func begin(_ id: String) async throws -> ProducerIdentity {
                try await coordinator.initProducerID(transactionalID: id, timeoutMilliseconds: Self.timeout)
            }
            func commit(_ id: String, _ producer: ProducerIdentity, metadata count: Int) async -> TransactionError.Code?
            {
                let metadata = String(repeating: "x", count: count)
                let offset = CommittedOffset(offset: 1, metadata: metadata, committedAt: 0)
                return await Self.code {
                    try await coordinator.addOffsets(transactionalID: id, producer: producer, group: id)
                    try await coordinator.commitOffsets(
                        transactionalID: id,
                        producer: producer,
                        group: id,
                        offsets: [p(0): offset]
                    )
                }
            }
            let (x, y) = (try await begin("x"), try await begin("y"))
            #expect(await commit("x", x, metadata: 3000) == nil)
            #expect(coordinator.pendingGroups == ["x"])
            #expect(await commit("y", y, metadata: 3000) == .coordinatorNotAvailable)
            // The same again takes no more.
            #expect(await commit("x", x, metadata: 3000) == nil)
            _ = try await coordinator.end(transactionalID: "x", producer: x, commit: true)
            #expect(await commit("y", y, metadata: 3000) == nil)
            _ = try await coordinator.end(transactionalID: "y", producer: y, commit: true)
            #expect(stand.log.committed(group: "x").count == 1)
            #expect(stand.log.committed(group: "y").count == 1)
            #expect(coordinator.pendingGroups.isEmpty)
        }
    }

    @Test func commitsAndAbortsOverPartitionsAndGroups() async throws {
        try await withStand { stand in
            let producer = try await Self.begin(stand)
            let coordinator = stand.coordinator
            for (round, commit) in [true, false].enumerated() {
                try await coordinator.addPartitions(
                    transactionalID: "x",
                    producer: producer,
                    partitions: Self.partitions
                )
                for partition in Self.partitions {
                    try await stand.put("\(commit)", partition, producer, sequence: Int32(round))
                }
                try await coordinator.addOffsets(transactionalID: "x", producer: producer, group: "g")
                let offset = CommittedOffset(offset: commit ? 7 : 9, committedAt: 0)
                try await coordinator.commitOffsets(
                    transactionalID: "x",
                    producer: producer,
                    group: "g",
                    offsets: [p(0): offset]
                )
                #expect(coordinator.pendingOffsets(of: "g").contains(p(0)))
                #expect(!coordinator.pendingOffsets(of: "g").contains(p(1)))
                #expect(stand.log.committed(group: "g")[p(0)]?.offset == (commit ? nil : 7))
                #expect(try coordinator.describe("x").phase == .ongoing)
                #expect(try await coordinator.end(transactionalID: "x", producer: producer, commit: commit) == producer)
                #expect(try await coordinator.end(transactionalID: "x", producer: producer, commit: commit) == producer)
                #expect(!coordinator.pendingOffsets(of: "g").contains(p(0)))
                #expect(stand.log.committed(group: "g")[p(0)]?.offset == 7)
            }
            for partition in Self.partitions { #expect(try await stand.texts(partition) == ["true"]) }
            #expect(coordinator.list().map(\.id) == ["x"])
            #expect(coordinator.list(phases: [.ongoing]).isEmpty)
            #expect(coordinator.list(producerIDs: [producer.id]).count == 1)
        }
    }

    @Test func givesEachProducerWithoutAnIDAnother() async throws {
        try await withStand { stand in
            let first = try await stand.coordinator.initProducerID(transactionalID: nil, timeoutMilliseconds: -1)
            let second = try await stand.coordinator.initProducerID(transactionalID: nil, timeoutMilliseconds: -1)
            #expect(first.id != second.id && first.epoch == 0 && second.epoch == 0)
        }
    }

    @Test func shutsOutTheProducerBeforeAndAbortsWhatItLeft() async throws {
        try await withStand { stand in
            let zombie = try await Self.begin(stand)
            try await stand.coordinator.addPartitions(transactionalID: "x", producer: zombie, partitions: [p(0)])
            try await stand.put("zombie", p(0), zombie, sequence: 0)
            let producer = try await Self.begin(stand)
            #expect(producer == ProducerIdentity(id: zombie.id, epoch: zombie.epoch + 2))
            #expect(try stand.log.bounds(p(0)).stable == 2)
            #expect(try await stand.texts(p(0)) == [])
            await #expect(throws: EventLogError.self) { try await stand.put("late", p(0), zombie, sequence: 1) }
            #expect(
                await Self.code {
                    _ = try await stand.coordinator.end(transactionalID: "x", producer: zombie, commit: true)
                } == .producerFenced
            )
        }
    }

    @Test func keepsLateBatchesOutOfTheNextTransaction() async throws {
        try await withStand { stand in
            var producer = try await Self.begin(stand)
            for round in 0..<5 {
                try await stand.coordinator.addPartitions(transactionalID: "x", producer: producer, partitions: [p(0)])
                try await stand.put("\(round)", p(0), producer, sequence: 0)
                let next = try await stand.coordinator.end(
                    transactionalID: "x",
                    producer: producer,
                    commit: round % 2 == 0,
                    raisesEpoch: true
                )
                #expect(next == ProducerIdentity(id: producer.id, epoch: producer.epoch + 1))
                await #expect(throws: EventLogError.self) { try await stand.put("late", p(0), producer, sequence: 1) }
                let again = try await stand.coordinator.end(
                    transactionalID: "x",
                    producer: producer,
                    commit: round % 2 == 0,
                    raisesEpoch: true
                )
                #expect(again == next)
                producer = next
            }
            #expect(try await stand.texts(p(0)) == ["0", "2", "4"])
        }
    }

    @Test func refusesBatchesOutsideATransaction() async throws {
        try await withStand { stand in
            let producer = try await Self.begin(stand)
            await #expect(throws: EventLogError.self) { try await stand.put("early", p(0), producer, sequence: 0) }
            try await stand.coordinator.addPartitions(transactionalID: "x", producer: producer, partitions: [p(0)])
            await #expect(throws: EventLogError.self) { try await stand.put("other", p(1), producer, sequence: 0) }
            try await stand.put("in", p(0), producer, sequence: 0)
            func isIn(_ partitions: [TopicPartition]) -> Bool {
                stand.coordinator.hasPartitions(transactionalID: "x", producer: producer, partitions: partitions)
            }
            #expect(isIn([p(0)]) && !isIn([p(0), p(1)]))
            _ = try await stand.coordinator.end(transactionalID: "x", producer: producer, commit: true)
            #expect(!isIn([p(0)]))
            // For clients whose epoch stays the same too.
            await #expect(throws: EventLogError.self) { try await stand.put("late", p(0), producer, sequence: 1) }
            #expect(try stand.log.bounds(p(0)) == (0, 2, 2))
        }
    }

    @Test func refusesWhatMakesNoSense() async throws {
        try await withStand { stand in
            let coordinator = stand.coordinator
            func begin(_ id: String, _ timeout: Int32) async -> TransactionError.Code? {
                await Self.code {
                    _ = try await coordinator.initProducerID(transactionalID: id, timeoutMilliseconds: timeout)
                }
            }
            #expect(await begin("", 1) == .invalidRequest)
            #expect(await begin(String(repeating: "x", count: 1025), 1) == .invalidRequest)
            #expect(await begin("x", 0) == .invalidTransactionTimeout)
            #expect(await begin("x", 900_001) == .invalidTransactionTimeout)
            let producer = ProducerIdentity(id: 1, epoch: 0)
            #expect(
                await Self.code {
                    try await coordinator.addPartitions(transactionalID: "y", producer: producer, partitions: [p(0)])
                } == .invalidProducerIDMapping
            )
            #expect(await Self.code { _ = try coordinator.describe("y") } == .transactionalIDNotFound)
            let mine = try await Self.begin(stand)
            #expect(
                await Self.code {
                    _ = try await coordinator.end(transactionalID: "x", producer: mine, commit: true)
                } == .invalidTxnState
            )
            #expect(
                await Self.code {
                    try await coordinator.commitOffsets(transactionalID: "x", producer: mine, group: "g", offsets: [:])
                } == .invalidTxnState
            )
        }
    }

    @Test func abortsWhatIsOverdueAndForgetsWhatIsNotUsed() async throws {
        try await withStand { stand in
            let producer = try await Self.begin(stand)
            try await stand.coordinator.addPartitions(transactionalID: "x", producer: producer, partitions: [p(0)])
            try await stand.put("slow", p(0), producer, sequence: 0)
            stand.advance(by: 60_000)
            await stand.coordinator.tick()
            #expect(try stand.coordinator.describe("x").phase == .ongoing)
            stand.advance(by: 1)
            await stand.coordinator.tick()
            #expect(try stand.coordinator.describe("x").phase == .completeAbort)
            #expect(try stand.log.bounds(p(0)) == (0, 2, 2))
            #expect(
                await Self.code {
                    _ = try await stand.coordinator.end(transactionalID: "x", producer: producer, commit: true)
                } == .producerFenced
            )
            stand.advance(by: 7 * 24 * 3_600_000 + 1)
            await stand.coordinator.tick()
            #expect(stand.coordinator.list().isEmpty)
            #expect(stand.log.transactions().isEmpty)
        }
    }

    @Test func decidesNothingThatIsNotOnDisk() async throws {
        let stand = try await Stand()
        let producer = try await Self.begin(stand)
        try await stand.coordinator.addPartitions(transactionalID: "x", producer: producer, partitions: [p(0)])
        try await stand.put("a", p(0), producer, sequence: 0)
        stand.failFlushes(of: "offsets.log")
        #expect(
            await Self.code {
                _ = try await stand.coordinator.end(transactionalID: "x", producer: producer, commit: true)
            } == .coordinatorNotAvailable
        )
        #expect(try stand.log.bounds(p(0)).stable == 0)
        await stand.log.close()
    }

    /// The engine is killed with the decision on disk: the marker of the second partition and the offsets are missing.
    @Test(arguments: [true, false]) func finishesWhatWasDecidedBeforeAKill(commit: Bool) async throws {
        let stand = try await Stand()
        let producer = try await Self.begin(stand)
        let coordinator = stand.coordinator
        try await coordinator.addPartitions(transactionalID: "x", producer: producer, partitions: Self.partitions)
        for partition in Self.partitions { try await stand.put("a", partition, producer, sequence: 0) }
        try await coordinator.addOffsets(transactionalID: "x", producer: producer, group: "g")
        let offset = CommittedOffset(offset: 3, committedAt: 0)
        try await coordinator.commitOffsets(
            transactionalID: "x",
            producer: producer,
            group: "g",
            offsets: [p(0): offset]
        )
        stand.failFlushes(of: "t/1/")
        #expect(try await coordinator.end(transactionalID: "x", producer: producer, commit: commit) == producer)
        #expect(try coordinator.describe("x").phase == (commit ? .prepareCommit : .prepareAbort))
        #expect(coordinator.pendingOffsets(of: "g").contains(p(0)))
        #expect(
            await Self.code {
                try await coordinator.addPartitions(transactionalID: "x", producer: producer, partitions: [p(0)])
            } == .concurrentTransactions
        )
        #expect(await Self.code { _ = try await Self.begin(stand) } == .concurrentTransactions)
        let killed = try stand.directory.snapshot()
        await stand.log.close()
        // Nothing that had not been flushed is there.
        try killed.cut("log/topics/t/1/00000000000000000000.log", lastBatches: 1)
        let again = try await Stand(killed)
        #expect(try again.coordinator.describe("x").phase == (commit ? .completeCommit : .completeAbort))
        for partition in Self.partitions {
            #expect(try await again.texts(partition) == (commit ? ["a"] : []))
            #expect(try again.log.bounds(partition) == (0, 2, 2), "one marker each")
        }
        #expect(again.log.committed(group: "g")[p(0)]?.offset == (commit ? 3 : nil))
        #expect(try await again.coordinator.end(transactionalID: "x", producer: producer, commit: commit) == producer)
        await again.log.close()
    }

    @Test func goesOnWithAnOpenTransactionAfterAKill() async throws {
        let stand = try await Stand()
        let producer = try await Self.begin(stand)
        try await stand.coordinator.addPartitions(transactionalID: "x", producer: producer, partitions: [p(0), p(1)])
        try await stand.put("a", p(0), producer, sequence: 0)
        let killed = try stand.directory.snapshot()
        await stand.log.close()
        let again = try await Stand(killed)
        try await again.put("b", p(0), producer, sequence: 1)
        try await again.put("c", p(1), producer, sequence: 0)
        _ = try await again.coordinator.end(transactionalID: "x", producer: producer, commit: true)
        #expect(try await again.texts(p(0)) == ["a", "b"])
        #expect(try await again.texts(p(1)) == ["c"])
        await again.log.close()
    }

    @Test func abortsTransactionsNobodyKnowsOf() async throws {
        let stand = try await Stand()
        let producer = try await Self.begin(stand)
        try await stand.coordinator.addPartitions(transactionalID: "x", producer: producer, partitions: [p(0)])
        try await stand.put("a", p(0), producer, sequence: 0)
        let killed = try stand.directory.snapshot()
        await stand.log.close()
        try killed.remove("log/groups/offsets.log")
        let again = try await Stand(killed)
        #expect(try again.log.bounds(p(0)) == (0, 2, 2))
        #expect(try await again.texts(p(0)) == [])
        let next = try await Self.begin(again)
        #expect(next.id > producer.id)
        await again.log.close()
    }

    @Test func finishesWithoutATopicThatWasDeleted() async throws {
        try await withStand { stand in
            let producer = try await Self.begin(stand)
            let gone = TopicPartition(topic: "gone", partition: 0)
            try await stand.log.createTopic("gone", partitions: 1, settings: TopicSettings())
            try await stand.coordinator.addPartitions(
                transactionalID: "x",
                producer: producer,
                partitions: [gone, p(0)]
            )
            try await stand.put("a", p(0), producer, sequence: 0)
            try await stand.log.deleteTopic("gone")
            _ = try await stand.coordinator.end(transactionalID: "x", producer: producer, commit: true)
            #expect(try stand.coordinator.describe("x").phase == .completeCommit)
            #expect(try await stand.texts(p(0)) == ["a"])
        }
    }

    @Test func dealsWithRequestsOfOneIDOneByOne() async throws {
        try await withStand { stand in
            let identities = try await withThrowingTaskGroup(of: ProducerIdentity.self) { group in
                for _ in 0..<20 { group.addTask { try await Self.begin(stand) } }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(Set(identities.map(\.id)).count == 1)
            #expect(identities.map(\.epoch).sorted() == (0..<20).map { Int16($0) })
        }
    }

    /// What a transaction has is stored with each step.
    @Test func groupsOfATransactionAreBounded() async throws {
        let stand = try await Stand()
        let settings = TransactionSettings(groupsMax: 2)
        let coordinator = TransactionCoordinator(log: stand.log, settings: settings, logger: quietLogger)
        let producer = try await coordinator.initProducerID(transactionalID: "x", timeoutMilliseconds: 60_000)
        for group in ["a", "b", "a"] {
            try await coordinator.addOffsets(transactionalID: "x", producer: producer, group: group)
        }
        for group in ["c", String(repeating: "g", count: 65_536)] {
            let error = await #expect(throws: TransactionError.self) {
                try await coordinator.addOffsets(transactionalID: "x", producer: producer, group: group)
            }
            #expect(error?.code == .invalidRequest)
        }
        #expect(try coordinator.describe("x").groups == ["a", "b"])
        await stand.log.close()
    }
}
