// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import MartletCore
import Synchronization

/// Records of one partition, as fetched.
struct Fetched: Sendable {
    let partition: Int32
    let bytes: [UInt8]
    /// The first offset that is wanted; batches may begin earlier.
    let from: Int64
    /// The offset after the last.
    let next: Int64
    /// Decompresses the batches.
    let decompression: Decompression

    init(partition: Int32, bytes: [UInt8], from: Int64, next: Int64, account: SinkMemory.Account?) {
        self.partition = partition
        self.bytes = bytes
        self.from = from
        self.next = next
        decompression = Decompression(account)
    }
}

/// Something a sink reacts to.
enum SinkMessage: Sendable {
    /// The gate is opened once the records were taken.
    case fetched(Fetched, OneTimeGate)
    /// The oldest row that is in no file has waited long enough.
    case due
    case committed(Result<TableCommit?, any Error>)
    case commit(CheckedContinuation<TableCommit?, any Error>)
    /// The topic may have more partitions.
    case look
    /// There may be memory for records that had to wait.
    case room
}

/// What waits for a sink; bounded, because every reader waits when two fetches of its were not taken.
final class SinkMailbox: Sendable {
    private struct State {
        var messages: [SinkMessage] = []
        var waiter: CheckedContinuation<[SinkMessage]?, Never>?
        var isClosed = false
    }

    private let state = Mutex(State())

    /// Adds a message; false where nobody will read it.
    @discardableResult
    func post(_ message: SinkMessage) -> Bool {
        let (waiter, isOpen) = state.withLock { state -> (CheckedContinuation<[SinkMessage]?, Never>?, Bool) in
            guard !state.isClosed else { return (nil, false) }
            if let waiter = state.waiter {
                state.waiter = nil
                return (waiter, true)
            }
            state.messages.append(message)
            return (nil, true)
        }
        waiter?.resume(returning: [message])
        return isOpen
    }

    /// All messages there are, waiting for one; nil once closed.
    func take() async -> [SinkMessage]? {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let ready = state.withLock { state -> [SinkMessage]?? in
                    if state.isClosed { return .some(nil) }
                    if !state.messages.isEmpty {
                        defer { state.messages = [] }
                        return state.messages
                    }
                    state.waiter = continuation
                    return nil
                }
                if let ready { continuation.resume(returning: ready) }
            }
        } onCancel: {
            close()
        }
    }

    /// Refuses what comes, and answers what waits.
    func close() {
        let (waiter, left) = state.withLock { state in
            state.isClosed = true
            defer {
                state.waiter = nil
                state.messages = []
            }
            return (state.waiter, state.messages)
        }
        waiter?.resume(returning: nil)
        for message in left { message.refuse() }
    }
}

extension SinkMessage {
    /// Lets go of whoever waits for an answer.
    func refuse() {
        switch self {
        case .fetched(_, let taken): taken.open()
        case .commit(let answer): answer.resume(throwing: ServiceError(.unavailable, "the table's sink is stopping"))
        case .due, .committed, .look, .room: break
        }
    }
}
