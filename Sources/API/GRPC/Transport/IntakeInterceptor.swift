// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import GRPCCore
import Synchronization

/// The calls that are open, by the number their ``CallIntakeHandler`` put into their metadata.
package final class OpenCalls: Sendable {
    /// Key of that number; what a client sends by this name is thrown away.
    package static let key = "martlet-call"

    private struct State {
        var last: UInt64 = 0
        var calls: [UInt64: CallIntake] = [:]
    }

    private let state = Mutex(State())

    func begin(_ intake: CallIntake) -> UInt64 {
        state.withLock { state in
            state.last += 1
            state.calls[state.last] = intake
            return state.last
        }
    }

    func end(_ number: UInt64) {
        _ = state.withLock { $0.calls.removeValue(forKey: number) }
    }

    /// The open call of that number.
    package func call(_ number: UInt64) -> CallIntake? {
        state.withLock { $0.calls[number] }
    }
}

/// Tells the ``CallIntake`` of a call when its service has done with a message: when it asks for the next one.
///
/// A service with a single request asks only whether that was all, and has its message until the call ends.
struct IntakeInterceptor: ServerInterceptor {
    let calls: OpenCalls

    func intercept<Input: Sendable, Output: Sendable>(
        request: StreamingServerRequest<Input>,
        context: ServerContext,
        next:
            @concurrent @Sendable (StreamingServerRequest<Input>, ServerContext) async throws ->
            StreamingServerResponse<Output>
    ) async throws -> StreamingServerResponse<Output> {
        guard
            let number = request.metadata[stringValues: OpenCalls.key].first(where: { _ in true }).flatMap(UInt64.init),
            let intake = calls.call(number)
        else { return try await next(request, context) }
        var request = request
        request.metadata.removeAllValues(forKey: OpenCalls.key)
        if context.descriptor.type == .bidirectionalStreaming || context.descriptor.type == .clientStreaming {
            intake.hasMany = true
            request.messages = RPCAsyncSequence(wrapping: UsedMessages(messages: request.messages, intake: intake))
        }
        return try await next(request, context)
    }
}

private struct UsedMessages<Element: Sendable>: AsyncSequence, Sendable {
    typealias Failure = any Error

    let messages: RPCAsyncSequence<Element, any Error>
    let intake: CallIntake

    func makeAsyncIterator() -> Iterator {
        Iterator(messages: messages.makeAsyncIterator(), intake: intake)
    }

    struct Iterator: AsyncIteratorProtocol {
        var messages: RPCAsyncSequence<Element, any Error>.AsyncIterator
        let intake: CallIntake
        private var hasOne = false

        init(messages: RPCAsyncSequence<Element, any Error>.AsyncIterator, intake: CallIntake) {
            self.messages = messages
            self.intake = intake
        }

        mutating func next(isolation actor: isolated (any Actor)?) async throws -> Element? {
            if hasOne { intake.used() }
            let message = try await messages.next(isolation: actor)
            hasOne = message != nil
            return message
        }

        mutating func next() async throws -> Element? {
            try await next(isolation: nil)
        }
    }
}
