// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore
import Synchronization

/// Holds logins back until it is their turn to be checked.
final class LoginGate: Sendable {
    private typealias Waiter = CheckedContinuation<LoginQueue.Turn, any Error>

    private struct State {
        var queue = LoginQueue()
        var waiters: [UInt64: (turn: LoginQueue.Turn, continuation: Waiter)] = [:]
        var lastCall: UInt64 = 0
        var timer: Task<Void, Never>?
        var timerAt: LoginQueue.Instant?
    }

    private let state = Mutex(State())

    /// Waits for the turn of a login; each turn must be ended.
    ///
    /// - Throws: `ServiceError.unavailable` where too much waits; `CancellationError`.
    func take(peer: String, user: String?) async throws -> LoginQueue.Turn {
        let place = ClientAddress.network(peer)
        let call = state.withLock { state in
            state.lastCall += 1
            return state.lastCall
        }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let arrival = state.withLock { state -> LoginQueue.Arrival? in
                    // Cancelled before there was a waiter to be found.
                    guard !Task.isCancelled else { return nil }
                    let arrival = state.queue.arrive(place: place, user: user, now: .now)
                    if case .waits(let turn) = arrival { state.waiters[call] = (turn, continuation) }
                    return arrival
                }
                switch arrival {
                case nil: continuation.resume(throwing: CancellationError())
                case .goes(let turn): continuation.resume(returning: turn)
                case .waits: wake()
                case .refused:
                    continuation.resume(
                        throwing: ServiceError(
                            .unavailable,
                            "too many logins wait to be checked",
                            fix: "try again in a moment"
                        )
                    )
                }
            }
        } onCancel: {
            let waiter = state.withLock { state in
                let waiter = state.waiters.removeValue(forKey: call)
                if let waiter { _ = state.queue.leave(waiter.turn) }
                return waiter
            }
            guard let waiter else { return }
            waiter.continuation.resume(throwing: CancellationError())
            wake()
        }
    }

    /// A check has ended.
    func end(_ turn: LoginQueue.Turn, _ outcome: LoginQueue.Outcome) {
        state.withLock { $0.queue.end(turn, outcome, now: .now) }
        wake()
    }

    /// Lets those go whose turn it is, and sees to it that this is done again in time.
    private func wake() {
        let woken = state.withLock { held -> [(LoginQueue.Turn, Waiter)] in
            let (turns, next) = held.queue.ready(now: .now)
            if let next, held.timerAt.map({ next < $0 }) ?? true {
                held.timer?.cancel()
                held.timerAt = next
                held.timer = Task { [self] in await wake(at: next) }
            }
            guard !turns.isEmpty else { return [] }
            let numbers = Set(turns.map(\.number))
            return held.waiters.filter { numbers.contains($0.value.turn.number) }.map { call, waiter in
                held.waiters[call] = nil
                return (waiter.turn, waiter.continuation)
            }
        }
        for (turn, continuation) in woken { continuation.resume(returning: turn) }
    }

    private func wake(at instant: LoginQueue.Instant) async {
        // Cancelled, as an earlier one takes its place.
        guard (try? await Task.sleep(until: instant, clock: .continuous)) != nil else { return }
        state.withLock { state in
            guard state.timerAt == instant else { return }
            (state.timer, state.timerAt) = (nil, nil)
        }
        wake()
    }
}
