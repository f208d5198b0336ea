// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// What it takes to start one worker.
package struct WorkerSpec: Sendable {
    /// Unique in the engine's life; part of the socket's name.
    package var id: String
    /// What the gateway expects from this worker as bearer token.
    package var token: String
    package var executable: String
    package var arguments: [String]
    /// The complete environment; nothing is inherited.
    package var environment: [String: String]
    package var workingDirectory: String
    /// Unix socket the worker listens on.
    package var socketPath: String
    /// Handler calls it runs at once.
    package var concurrency: Int
    /// Resident memory above which it is killed; nil is no limit.
    package var memoryBytesMax: Int64?
    /// Longest time until it reports ready.
    package var startTimeout: Duration
    /// Time it gets to finish after being asked to stop.
    package var stopGrace: Duration
    /// Folder of this worker's own, removed when it has ended; holds its secrets.
    package var scratchDirectory: String?

    package init(
        id: String,
        token: String,
        executable: String,
        arguments: [String],
        environment: [String: String],
        workingDirectory: String,
        socketPath: String,
        concurrency: Int,
        memoryBytesMax: Int64? = nil,
        startTimeout: Duration = .seconds(60),
        stopGrace: Duration = .seconds(10),
        scratchDirectory: String? = nil
    ) {
        self.id = id
        self.token = token
        self.executable = executable
        self.arguments = arguments
        self.environment = environment
        self.workingDirectory = workingDirectory
        self.socketPath = socketPath
        self.concurrency = concurrency
        self.memoryBytesMax = memoryBytesMax
        self.startTimeout = startTimeout
        self.stopGrace = stopGrace
        self.scratchDirectory = scratchDirectory
    }
}
