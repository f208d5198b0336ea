// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Lets the owner of a worker end it at once, from any thread.
package final class WorkerKillSwitch: Sendable {
    private struct State {
        var cause: WorkerExit.Cause?
        var isGraceful = false
        var action: (@Sendable (_ graceful: Bool) -> Void)?
    }

    private let state = Mutex(State())

    package init() {}

    /// Asks the worker to finish what it runs and exit.
    package func stop() {
        fire(.stopped, graceful: true)
    }

    /// Ends the worker by force; the first cause is the one reported.
    package func kill(_ cause: WorkerExit.Cause) {
        fire(cause, graceful: false)
    }

    /// Why the worker was ended, where its owner ended it.
    package var cause: WorkerExit.Cause? {
        state.withLock { $0.cause }
    }

    /// Sets what ending means; called at once where it was asked for already.
    package func arm(_ action: @escaping @Sendable (_ graceful: Bool) -> Void) {
        let pending: Bool? = state.withLock { state in
            state.action = action
            return state.cause == nil ? nil : state.isGraceful
        }
        if let pending { action(pending) }
    }

    /// Forgets the action, so that nothing is signalled after the process is gone.
    package func disarm() {
        state.withLock { $0.action = nil }
    }

    private func fire(_ cause: WorkerExit.Cause, graceful: Bool) {
        let action = state.withLock { state in
            if state.cause == nil || (state.isGraceful && !graceful) {
                if state.cause == nil { state.cause = cause }
                state.isGraceful = graceful
            }
            return state.action
        }
        action?(graceful)
    }
}
