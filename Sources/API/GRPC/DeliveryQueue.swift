// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Broker
import DequeModule
import EventLog
import Groups
import KafkaCodec
import MartletCore
import Synchronization

/// A subscriber's deliveries, encoded, until they are written to its stream.
///
/// Bounded: its subscription adds nothing while some 1 MiB waits here.
final class DeliveryQueue: DeliverySink {
    /// A message of deliveries is not made larger than this, but for a single one: clients of gRPC take 4 MiB unless they are told to take more.
    static let messageBytes = 256 << 10

    private struct State {
        var messages: Deque<EncodedDeliveries> = []
        /// The message that is not full yet, and the last delivery in it.
        var packer = MessagePacker(bytesMax: DeliveryQueue.messageBytes)
        var lastID: UInt64 = 0
        var encoder = DeliveryEncoder()
        var committed: [TopicPartition: Int64] = [:]
        var failure: ServiceError?
        var isEnded = false
    }

    private let state = Mutex(State())
    private let bell = Bell()

    // MARK: DeliverySink

    func add(_ record: RecordView, of partition: TopicPartition, id: UInt64, attempt: UInt32) {
        state.withLock { state in
            let full = state.packer.add { bytes in
                state.encoder.append(record, of: partition, id: id, attempt: attempt, to: &bytes)
            }
            if let full { state.messages.append(EncodedDeliveries(bytes: full, lastID: state.lastID)) }
            state.lastID = id
        }
    }

    func takeDeliveries() -> EncodedDeliveries? {
        state.withLock { state in
            if let message = state.messages.popFirst() { return message }
            return state.packer.take().map { EncodedDeliveries(bytes: $0, lastID: state.lastID) }
        }
    }

    func discard() {
        state.withLock { state in
            state.messages.removeAll()
            _ = state.packer.take()
        }
    }

    func add(committed: [TopicPartition: Int64]) {
        state.withLock { $0.committed.merge(committed) { max($0, $1) } }
    }

    func fail(_ error: ServiceError) {
        state.withLock { if $0.failure == nil { $0.failure = error } }
    }

    func ring() { bell.ring() }

    // MARK: Writing

    /// The client has ended its half.
    func end() {
        state.withLock { $0.isEnded = true }
        bell.ring()
    }

    /// What there is besides deliveries: offsets on disk, why it is over, and whether the client has ended.
    func news() -> (committed: [TopicPartition: Int64], failure: ServiceError?, isEnded: Bool) {
        state.withLock { state in
            defer { state.committed = [:] }
            return (state.committed, state.failure, state.isEnded)
        }
    }

    /// Waits for a ring.
    func wait() async { await bell.sleep(until: nil) }
}
