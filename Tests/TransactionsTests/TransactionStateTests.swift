// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Testing
import Transactions

@Suite struct TransactionStateTests {
    private static let partition = TopicPartition(topic: "t", partition: 0)
    private static let other = TopicPartition(topic: "t", partition: 1)
    private static let first = ProducerIdentity(id: 5, epoch: 0)

    private static func raised(_ count: Int16 = 1) -> ProducerIdentity { ProducerIdentity(id: 5, epoch: count) }

    private static let empty = TransactionState(producer: first, timeoutMilliseconds: 1000, at: 0)

    private static func ongoing() throws -> TransactionState {
        try #require(try empty.adding([partition], by: first, at: 10))
    }

    private static func code(_ body: () throws -> Void) -> TransactionError.Code? {
        do {
            try body()
            return nil
        } catch {
            return (error as? TransactionError)?.code
        }
    }

    private static func stored(_ beginning: TransactionState.Beginning) throws -> TransactionState {
        guard case .store(let state) = beginning else { throw TransactionError(.invalidRequest, "\(beginning)") }
        return state
    }

    private static func prepared(_ ending: TransactionState.Ending) throws -> TransactionState {
        guard case .prepare(let state) = ending else { throw TransactionError(.invalidRequest, "\(ending)") }
        return state
    }

    @Test func growsAndCommitsForOlderClients() throws {
        let ongoing = try Self.ongoing()
        #expect(ongoing.phase == .ongoing && ongoing.startedAt == 10)
        #expect(try ongoing.adding([Self.partition], by: Self.first, at: 11) == nil)
        let grown = try #require(try ongoing.adding([Self.other], by: Self.first, at: 12))
        #expect(grown.partitions.count == 2 && grown.startedAt == 10)
        let ending = try Self.prepared(try grown.ending(commit: true, by: Self.first, raisesEpoch: false, at: 13))
        #expect(ending.phase == .prepareCommit && ending.markerEpoch == 0 && ending.next == nil)
        let done = ending.completed(at: 14)
        #expect(done.phase == .completeCommit && done.producer == Self.first && done.partitions.isEmpty)
        #expect(try done.ending(commit: true, by: Self.first, raisesEpoch: false, at: 15) == .unchanged)
        #expect(
            Self.code { _ = try done.ending(commit: false, by: Self.first, raisesEpoch: false, at: 15) }
                == .invalidTxnState
        )
        #expect(try done.adding([Self.partition], by: Self.first, at: 16)?.startedAt == 16)
    }

    @Test func raisesTheEpochWithEachEndForNewerClients() throws {
        let ending = try Self.prepared(
            try Self.ongoing().ending(commit: true, by: Self.first, raisesEpoch: true, at: 13)
        )
        #expect(ending.markerEpoch == 1 && ending.next == Self.raised())
        let done = ending.completed(at: 14)
        #expect(done.producer == Self.raised() && done.previous == Self.first)
        // The answer was lost: the same request, and the same answer.
        #expect(try done.ending(commit: true, by: Self.first, raisesEpoch: true, at: 15) == .unchanged)
        #expect(
            Self.code { _ = try done.ending(commit: false, by: Self.first, raisesEpoch: true, at: 15) }
                == .invalidTxnState
        )
        #expect(Self.code { _ = try done.adding([Self.partition], by: Self.first, at: 15) } == .producerFenced)
        // Nothing is open: committing it is a mistake, aborting it shuts out what may be on its way.
        #expect(
            Self.code { _ = try done.ending(commit: true, by: Self.raised(), raisesEpoch: true, at: 15) }
                == .invalidTxnState
        )
        let aborting = try Self.prepared(try done.ending(commit: false, by: Self.raised(), raisesEpoch: true, at: 15))
        #expect(aborting.completed(at: 16).producer == Self.raised(2))
        let again = try #require(try done.adding([Self.partition], by: Self.raised(), at: 16))
        #expect(
            Self.code { _ = try again.ending(commit: true, by: Self.first, raisesEpoch: true, at: 17) }
                == .producerFenced
        )
    }

    @Test func takesAnotherProducerIDWhenEpochsAreUsedUp() throws {
        let last = ProducerIdentity(id: 5, epoch: Int16.max - 1)
        let state = TransactionState(producer: last, timeoutMilliseconds: 1000, at: 0)
        #expect(try state.beginning(expecting: nil, timeoutMilliseconds: 1, at: 1) == .needsProducerID)
        let begun = try Self.stored(
            try state.beginning(expecting: last, timeoutMilliseconds: 1, newID: 9, at: 1)
        )
        #expect(begun.producer == ProducerIdentity(id: 9, epoch: 0) && begun.previous == last)
        let ongoing = try #require(try state.adding([Self.partition], by: last, at: 1))
        #expect(try ongoing.ending(commit: true, by: last, raisesEpoch: true, at: 2) == .needsProducerID)
        let ending = try Self.prepared(
            try ongoing.ending(commit: true, by: last, raisesEpoch: true, newID: 9, at: 2)
        )
        #expect(ending.markerEpoch == Int16.max)
        #expect(ending.completed(at: 3).producer == ProducerIdentity(id: 9, epoch: 0))
        let fenced = ongoing.fenced(at: 2).completed(at: 3)
        let impossible = ProducerIdentity(id: 5, epoch: Int16.max)
        #expect(fenced.producer == impossible)
        #expect(Self.code { _ = try fenced.adding([Self.partition], by: impossible, at: 4) } == .producerFenced)
        #expect(try fenced.beginning(expecting: nil, timeoutMilliseconds: 1, at: 4) == .needsProducerID)
    }

    @Test func shutsOutThePreviousProducer() throws {
        let begun = try Self.stored(try Self.empty.beginning(expecting: nil, timeoutMilliseconds: 2000, at: 1))
        #expect(begun.producer == Self.raised() && begun.timeoutMilliseconds == 2000)
        #expect(Self.code { _ = try begun.adding([Self.partition], by: Self.first, at: 2) } == .producerFenced)
        #expect(
            Self.code { _ = try begun.beginning(expecting: Self.first, timeoutMilliseconds: 1, at: 2) }
                == .producerFenced
        )
        let foreign = ProducerIdentity(id: 6, epoch: 1)
        #expect(Self.code { _ = try begun.adding([Self.partition], by: foreign, at: 2) } == .invalidProducerIDMapping)
    }

    @Test func raisesTheEpochOfWhoSaysWhichItHad() throws {
        let begun = try Self.stored(try Self.empty.beginning(expecting: Self.first, timeoutMilliseconds: 1000, at: 1))
        #expect(begun.producer == Self.raised())
        #expect(try begun.beginning(expecting: Self.first, timeoutMilliseconds: 1000, at: 2) == .unchanged)
        let next = try Self.stored(try begun.beginning(expecting: Self.raised(), timeoutMilliseconds: 1000, at: 2))
        #expect(next.producer == Self.raised(2))
        #expect(
            Self.code { _ = try next.beginning(expecting: Self.first, timeoutMilliseconds: 1000, at: 3) }
                == .producerFenced
        )
    }

    @Test func abortsWhatIsOpenBeforeAnotherProducerBegins() throws {
        let ongoing = try Self.ongoing()
        guard case .abort(let fenced) = try ongoing.beginning(expecting: nil, timeoutMilliseconds: 1, at: 11) else {
            Issue.record("the open transaction is not aborted")
            return
        }
        #expect(fenced.phase == .prepareEpochFence && fenced.markerEpoch == 1)
        #expect(Self.code { _ = try fenced.adding([Self.other], by: Self.first, at: 12) } == .producerFenced)
        #expect(
            Self.code { _ = try fenced.ending(commit: true, by: Self.first, raisesEpoch: false, at: 12) }
                == .producerFenced
        )
        #expect(
            Self.code { _ = try fenced.beginning(expecting: nil, timeoutMilliseconds: 1, at: 12) }
                == .concurrentTransactions
        )
        let done = fenced.completed(at: 13)
        #expect(done.phase == .completeAbort && done.producer == Self.raised() && done.previous == nil)
        #expect(
            try Self.stored(try done.beginning(expecting: nil, timeoutMilliseconds: 1, at: 14)).producer
                == Self.raised(2)
        )
    }

    @Test func refusesStepsWhileADecisionIsCarriedOut() throws {
        let ending = try Self.prepared(
            try Self.ongoing().ending(commit: false, by: Self.first, raisesEpoch: false, at: 11)
        )
        #expect(Self.code { _ = try ending.adding([Self.other], by: Self.first, at: 12) } == .concurrentTransactions)
        #expect(Self.code { _ = try ending.adding(group: "g", by: Self.first, at: 12) } == .concurrentTransactions)
        #expect(
            Self.code { _ = try ending.ending(commit: false, by: Self.first, raisesEpoch: false, at: 12) }
                == .concurrentTransactions
        )
        #expect(
            Self.code { _ = try ending.ending(commit: true, by: Self.first, raisesEpoch: false, at: 12) }
                == .invalidTxnState
        )
    }

    @Test func keepsOffsetsOfGroupsThatWereAdded() throws {
        let offsets = [Self.partition: CommittedOffset(offset: 4, metadata: "é", committedAt: 1)]
        let ongoing = try Self.ongoing()
        #expect(
            Self.code { _ = try ongoing.adding(offsets, of: "g", by: Self.first, at: 12) } == .invalidTxnState
        )
        let added = try #require(try ongoing.adding(group: "g", by: Self.first, at: 12))
        #expect(try added.adding(group: "g", by: Self.first, at: 13) == nil)
        let kept = try added.adding(offsets, of: "g", by: Self.first, at: 13)
        #expect(kept.offsets == ["g": offsets])
        #expect(TransactionState(decoding: kept.encoded()) == kept)
    }

    @Test func keepsLeaderEpochsAndReadsWhatHasNone() throws {
        var offset = CommittedOffset(offset: 4, metadata: "é", committedAt: 1, leaderEpoch: 7)
        let grown = try #require(try Self.ongoing().adding(group: "g", by: Self.first, at: 12))
        let kept = try grown.adding([Self.partition: offset], of: "g", by: Self.first, at: 13)
        let bytes = kept.encoded()
        #expect(TransactionState(decoding: bytes) == kept)
        // Version 1 is the same without the four bytes in front of the metadata's length.
        let older = [1] + bytes[1..<bytes.count - 10] + bytes[(bytes.count - 6)...]
        offset.leaderEpoch = -1
        #expect(TransactionState(decoding: Array(older))?.offsets == ["g": [Self.partition: offset]])
    }

    @Test func isOverdueOnlyWhileOpen() throws {
        let ongoing = try Self.ongoing()
        #expect(!ongoing.isOverdue(at: 1010))
        #expect(ongoing.isOverdue(at: 1011))
        #expect(!Self.empty.isOverdue(at: 1 << 40))
        #expect(!ongoing.fenced(at: 11).isOverdue(at: 1 << 40))
    }

    @Test func readsNothingThatIsCutOrChanged() throws {
        let fenced = try Self.ongoing().fenced(at: 11)
        let bytes = fenced.encoded()
        #expect(TransactionState(decoding: bytes) == fenced)
        for length in 0..<bytes.count { #expect(TransactionState(decoding: Array(bytes[..<length])) == nil) }
        #expect(TransactionState(decoding: bytes + [0]) == nil)
        #expect(TransactionState(decoding: [3] + bytes.dropFirst()) == nil)
        #expect(TransactionState(decoding: [1, 9] + bytes.dropFirst(2)) == nil)
    }
}
