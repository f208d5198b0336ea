// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// What a worker tells its owner, in order.
package enum WorkerEvent: Sendable {
    case ready(WorkerReadiness)
    case failed(WorkerFailure)
    /// Results or progress of request `request`.
    case line(request: Int, ResultLine)
    /// No more lines of that request will come; an error where the connection broke.
    case requestEnded(request: Int, error: String?)
    case exited(WorkerExit)
}
