// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// A place where workers run: processes here; containers and pods through the same protocol.
package protocol WorkerBackend: Sendable {
    /// Starts a worker and returns when it has ended.
    ///
    /// Cancelling the calling task stops the worker: gracefully within `stopGrace`, then by force.
    /// - Parameters:
    ///   - spec: What to start.
    ///   - kill: Finishes with the cause once the owner wants the worker ended at once.
    /// - Returns: How it ended.
    func run(_ spec: WorkerSpec, kill: WorkerKillSwitch) async -> WorkerExit
}
