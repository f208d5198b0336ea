// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Logging
import Pipelines
import ServiceLifecycle
import Synchronization

/// Work that goes on until the engine stops, and is then cancelled.
struct BackgroundService: Service {
    private let name: String
    private let logger: Logger
    private let body: @Sendable () async throws -> Void

    init(_ name: String, _ logger: Logger, _ body: @escaping @Sendable () async throws -> Void) {
        self.name = name
        self.logger = logger
        self.body = body
    }

    func run() async throws {
        do {
            try await cancelWhenGracefulShutdown { try await body() }
        } catch is CancellationError {
            return
        } catch {
            logger.critical("a part of the engine failed", metadata: ["part": "\(name)", "error": "\(error)"])
            throw error
        }
    }
}

/// Work that is asked to finish what it holds before it is cancelled.
struct DrainingService: Service {
    private let name: String
    private let body: @Sendable () async -> Void
    private let drain: @Sendable () async -> Void

    init(_ name: String, run: @escaping @Sendable () async -> Void, drain: @escaping @Sendable () async -> Void) {
        self.name = name
        body = run
        self.drain = drain
    }

    func run() async throws {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await body() }
            group.addTask {
                try? await gracefulShutdown()  // Cancelled instead: then there is nothing to drain.
                await drain()
            }
            await group.next()
            group.cancelAll()
        }
    }
}

/// Starts the pipelines that ran when the engine last stopped.
struct ResumingService: Service {
    private let pipelines: PipelineService
    private let progress: StartProgress
    private let logger: Logger

    init(_ pipelines: PipelineService, _ progress: StartProgress, _ logger: Logger) {
        self.pipelines = pipelines
        self.progress = progress
        self.logger = logger
    }

    func run() async throws {
        do {
            try await pipelines.resumeAll()
        } catch {
            logger.error("pipelines could not be resumed", metadata: ["error": "\(error)"])
        }
        progress.finish()
        try? await gracefulShutdown()
    }
}

/// Whether what ran before the last stop runs again.
final class StartProgress: Sendable {
    private let isFinished = Mutex(false)

    /// What `/readyz` says.
    var obstacles: [String] {
        isFinished.withLock { $0 } ? [] : ["Pipelines that ran before are being started again."]
    }

    func finish() { isFinished.withLock { $0 = true } }
}
