// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore
import Synchronization

/// Lets one change of topics go on at a time, in the order in which they come: a change is two steps, one in the catalog and one in the log,
/// and the steps of two changes must not come in different orders.
final class TopicChanges: Sendable {
    private struct State {
        var isBusy = false
        var waiting: [CheckedContinuation<Void, Never>] = []
    }

    private static let waitingMax = 4096

    private let state = Mutex(State())

    /// Runs `body` once every change that was asked for before has ended.
    ///
    /// - Throws: what `body` throws; `ServiceError` `.unavailable` where too many are waiting.
    func exclusively<Value>(_ body: () async throws -> Value) async throws -> Value {
        guard state.withLock({ $0.waiting.count < Self.waitingMax }) else {
            throw ServiceError(.unavailable, "\(Self.waitingMax) changes of topics are waiting", fix: "try again later")
        }
        await withCheckedContinuation { (turn: CheckedContinuation<Void, Never>) in
            let isFree = state.withLock { state in
                if state.isBusy { state.waiting.append(turn) }
                defer { state.isBusy = true }
                return !state.isBusy
            }
            if isFree { turn.resume() }
        }
        defer { passOn() }
        return try await body()
    }

    private func passOn() {
        let next = state.withLock { state -> CheckedContinuation<Void, Never>? in
            if state.waiting.isEmpty {
                state.isBusy = false
                return nil
            }
            return state.waiting.removeFirst()
        }
        next?.resume()
    }
}
