// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Broker
import DequeModule
import Groups
import Synchronization

/// The messages of one stream that are on their way to disk, and the acknowledgements that are to be sent.
final class PublishWindow: Sendable {
    /// Most messages that are not acknowledged.
    static let messagesMax = 1000
    /// Bytes that are not acknowledged, above which no further message is read.
    static let bytesMax = 16 << 20

    private struct State {
        var messages = 0
        var bytes = 0
        /// Messages of `PublishStreamResponse` that are full, and the one that is not.
        var full: Deque<[UInt8]> = []
        var packer = MessagePacker(bytesMax: PublishWindow.messageBytes)
        /// Bytes of both.
        var acknowledgementBytes = 0
        var isFinished = false
        var error: (any Error)?
    }

    /// A message of acknowledgements is not made larger than this, but for a single one.
    private static let messageBytes = 256 << 10
    /// Acknowledgements that wait; a client that does not read them is not read either.
    private static let acknowledgementBytesMax = 1 << 20

    private let state = Mutex(State())
    private let roomBell = Bell()
    private let writeBell = Bell()

    /// Waits for room and takes it; false where the stream has ended.
    func enter(_ bytes: Int) async -> Bool {
        while !Task.isCancelled {
            let entered = state.withLock { state -> Bool? in
                if state.isFinished { return false }
                guard state.messages < Self.messagesMax, state.messages == 0 || state.bytes < Self.bytesMax,
                    state.acknowledgementBytes < Self.acknowledgementBytesMax
                else { return nil }
                state.messages += 1
                state.bytes += bytes
                return true
            }
            if let entered { return entered }
            await roomBell.sleep(until: nil)
        }
        return false
    }

    /// Notes what became of a message.
    func leave(_ message: PublishMessage, _ outcomes: [PublishOutcome]) {
        var acknowledgement: [UInt8] = []
        acknowledgement.reserveCapacity(16 + 24 * outcomes.count)
        acknowledgement.putField(1, message.number)
        PublishAnswer.results(outcomes, of: message.records, field: 2, into: &acknowledgement)
        state.withLock { state in
            let before = state.packer.byteCount
            let full = state.packer.add { $0.putField(1, acknowledgement) }
            state.acknowledgementBytes += state.packer.byteCount - before + (full?.count ?? 0)
            if let full { state.full.append(full) }
            state.messages -= 1
            state.bytes -= message.weight
        }
        roomBell.ring()
        writeBell.ring()
    }

    /// Nothing more will be read; what is on its way is still acknowledged.
    func finish(_ error: (any Error)?) {
        state.withLock { state in
            if state.isFinished { return }
            state.isFinished = true
            state.error = error
        }
        writeBell.ring()
        roomBell.ring()
    }

    /// Waits for acknowledgements and returns a message of them; nil when everything is acknowledged.
    ///
    /// - Throws: the error the stream was finished with, when everything is acknowledged; `CancellationError`.
    func next() async throws -> [UInt8]? {
        while true {
            try Task.checkCancellation()
            let (found, isDone) = try state.withLock { state -> ([UInt8]?, Bool) in
                if let found = state.full.popFirst() ?? state.packer.take() {
                    state.acknowledgementBytes -= found.count
                    return (found, false)
                }
                guard state.isFinished, state.messages == 0 else { return (nil, false) }
                if let error = state.error { throw error }
                return (nil, true)
            }
            if let found {
                roomBell.ring()
                return found
            }
            if isDone { return nil }
            await writeBell.sleep(until: nil)
        }
    }
}
