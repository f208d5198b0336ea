// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Broker
import GRPCCore
import Groups
import MartletCore
import MartletProto
import Synchronization

/// What a client has said on a stream to subscribe.
final class SubscribeCall: Sendable {
    private struct State {
        var open: Martlet_V1_Open?
        var handle: SubscriberHandle?
        /// What was said before the subscription had begun; a client may not wait for it.
        var isEnded = false
        var isComplete = false
        var failure: RPCError?
    }

    private static let idsMax = 100_000
    private static let delayMaxMilliseconds: UInt32 = 3_600_000

    /// What is to be written.
    let queue = DeliveryQueue()
    private let state = Mutex(State())
    private let bell = Bell()
    private let begun = Bell()

    /// Why the call ends; nil while nothing is wrong.
    var failure: RPCError? { state.withLock { $0.failure } }

    /// Reads what the client says until it ends its half.
    func read(_ messages: RPCAsyncSequence<Martlet_V1_SubscribeRequest, any Error>) async {
        do {
            for try await message in messages { try await take(message) }
        } catch let error as RPCError {
            fail(error)
        } catch {
            fail(RPCError(code: .cancelled, message: "the stream has ended"))
        }
        let hasGroup = state.withLock { state in
            state.isEnded = true
            if state.open == nil, state.failure == nil {
                state.failure = RPCError(
                    code: .invalidArgument,
                    message: "the stream ended before it said what to read; send open as the first message"
                )
            }
            return !(state.open?.group.isEmpty ?? true)
        }
        bell.ring()
        if hasGroup { queue.end() }
    }

    private func take(_ message: Martlet_V1_SubscribeRequest) async throws {
        switch message.message {
        case .open(let open):
            let isFirst = state.withLock { state in
                defer { if state.open == nil { state.open = open } }
                return state.open == nil
            }
            guard isFirst else { throw Self.misuse("open was sent before; end this stream and begin another one") }
            bell.ring()
        case .acknowledge(let acknowledge):
            try Self.check(acknowledge.ids)
            try await handle().acknowledge(ids: acknowledge.ids, through: acknowledge.through)
        case .reject(let reject):
            try Self.check(reject.ids)
            guard reject.delayMs <= Self.delayMaxMilliseconds else {
                throw Self.misuse("delay_ms is \(reject.delayMs); use up to \(Self.delayMaxMilliseconds)")
            }
            try await handle().reject(ids: reject.ids, delay: .milliseconds(Int64(reject.delayMs)))
        case .extend(let extend):
            try Self.check(extend.ids)
            guard extend.acknowledgeWithinMs == 0 || (1000...3_600_000).contains(extend.acknowledgeWithinMs) else {
                throw Self.misuse("acknowledge_within_ms is \(extend.acknowledgeWithinMs); use 1000 to 3600000")
            }
            let time = extend.acknowledgeWithinMs == 0 ? nil : Duration.milliseconds(Int64(extend.acknowledgeWithinMs))
            try await handle().extend(ids: extend.ids, by: time)
        case nil: throw Self.misuse("a message is empty; send open, acknowledge, reject or extend")
        }
    }

    private static func check(_ ids: [UInt64]) throws {
        guard ids.count <= idsMax else {
            throw misuse("a message names \(ids.count) deliveries; name up to \(idsMax) at once")
        }
    }

    private static func misuse(_ text: String) -> RPCError { RPCError(code: .invalidArgument, message: text) }

    /// The subscription, waited for: nothing can be acknowledged before it has delivered something.
    private func handle() async throws -> SubscriberHandle {
        while true {
            try Task.checkCancellation()
            let (handle, open) = state.withLock { ($0.handle, $0.open) }
            if let handle { return handle }
            guard let open else { throw Self.misuse("send open as the first message") }
            guard !open.group.isEmpty else {
                throw Self.misuse(
                    "there is nothing to acknowledge without a group; name one in open, or send nothing more"
                )
            }
            await begun.sleep(until: nil)
        }
    }

    /// Waits for what to read; nil where the client wants nothing.
    func opened() async throws -> Martlet_V1_Open? {
        while true {
            try Task.checkCancellation()
            let (open, failure, isEnded) = state.withLock { ($0.open, $0.failure, $0.isEnded) }
            if let failure { throw failure }
            if let open { return open }
            if isEnded { return nil }
            await bell.sleep(until: nil)
        }
    }

    /// The subscription has begun.
    func begin(_ handle: SubscriberHandle) {
        state.withLock { $0.handle = handle }
        begun.ring()
    }

    /// Reading without a group has come to its end.
    func complete() {
        state.withLock { $0.isComplete = true }
        bell.ring()
    }

    /// Waits until reading without a group has come to its end, or something is wrong.
    func completion() async throws {
        while true {
            try Task.checkCancellation()
            let (failure, isComplete) = state.withLock { ($0.failure, $0.isComplete) }
            if let failure { throw failure }
            if isComplete { return }
            await bell.sleep(until: nil)
        }
    }

    /// Ends the call with an error.
    func fail(_ error: ServiceError) {
        queue.fail(error)
        queue.ring()
        fail(RPCError(error))
    }

    private func fail(_ error: RPCError) {
        state.withLock { if $0.failure == nil { $0.failure = error } }
        bell.ring()
        queue.end()
    }
}
