// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import GRPCCore
import ServiceLifecycle

/// The life of a call that has no end of its own.
enum CallLife {
    /// How long a call may take to end in order once the engine stops: one whose client reads nothing never does.
    private static let graceSeconds = 5

    /// Runs a call's work; `tell` is called when the engine stops, and work that goes on nevertheless is broken off after a while.
    ///
    /// - Throws: what the work throws; `RPCError` `.unavailable` where it was broken off.
    static func run(
        tell: @escaping @Sendable () -> Void,
        _ work: @escaping @Sendable () async throws -> Void
    ) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await work() }
            group.addTask {
                try await gracefulShutdown()
                try Task.checkCancellation()
                tell()
                try await Task.sleep(for: .seconds(graceSeconds))
                throw RPCError(code: .unavailable, message: "the engine is stopping; connect again in a moment")
            }
            defer { group.cancelAll() }
            try await group.next()
        }
    }
}
