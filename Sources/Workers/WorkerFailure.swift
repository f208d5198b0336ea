// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Why a function's code cannot run: what the worker reported before it gave up.
package struct WorkerFailure: Error, Sendable, Equatable {
    /// `import`, `init` or `runtime`.
    package var phase: String
    package var type: String
    package var message: String
    package var traceback: String?

    package init(phase: String, type: String, message: String, traceback: String?) {
        self.phase = phase
        self.type = type
        self.message = message
        self.traceback = traceback
    }

    /// One line for statuses.
    package var reason: String { "\(phase) failed: \(type): \(message)" }
}

/// What a worker says of itself once it can take events.
package struct WorkerReadiness: Sendable, Equatable {
    package var processID: Int32
    /// `sync`, `async` or `batch`.
    package var handlerKind: String
    package var initMicros: Int64

    package init(processID: Int32, handlerKind: String, initMicros: Int64) {
        self.processID = processID
        self.handlerKind = handlerKind
        self.initMicros = initMicros
    }
}
