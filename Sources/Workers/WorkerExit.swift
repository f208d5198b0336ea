// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// How a worker ended.
package struct WorkerExit: Sendable, Equatable {
    /// What ended it.
    package enum Cause: Sendable, Equatable {
        /// It was asked to stop.
        case stopped
        case exited(status: Int32)
        case signalled(Int32)
        case memoryLimit(bytes: Int64, limit: Int64)
        /// A handler call passed its limit.
        case handlerTimeout
        case startTimeout
        case notStarted(String)
        /// It broke off a request or answered what the worker protocol does not know.
        case brokenProtocol(String)
    }

    package var cause: Cause
    /// The last lines it wrote to standard output and standard error, at most 8 KiB.
    package var outputTail: String

    package init(cause: Cause, outputTail: String) {
        self.cause = cause
        self.outputTail = outputTail
    }

    /// One sentence for a status or a log line.
    package var reason: String {
        switch cause {
        case .stopped: "the worker was stopped"
        case .exited(let status): "the worker exited with status \(status)"
        case .signalled(let signal): "the worker was killed by signal \(signal)"
        case .memoryLimit(let bytes, let limit):
            "the worker used \(bytes >> 20) MiB of memory, over its limit of \(limit >> 20) MiB; raise resources.max_memory"
        case .handlerTimeout: "the worker was killed because a handler call passed its time limit"
        case .startTimeout: "the worker did not become ready in time; init(ctx) may be stuck"
        case .brokenProtocol(let why): "the worker broke the worker protocol: \(why)"
        case .notStarted(let why): "the worker could not be started: \(why)"
        }
    }
}
