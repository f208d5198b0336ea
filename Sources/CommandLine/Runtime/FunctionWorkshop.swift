// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// What the command line needs for function folders on this machine, without an engine; `Functions` provides it.
package protocol FunctionWorkshop: Sendable {
    /// Makes `folder` with the files of a new Python function; `force` writes into a folder that has files already.
    ///
    /// - Returns: Paths of the files made, below the folder, in the order to show them.
    /// - Throws: `ServiceError` or `CommandFailure`, when the folder exists and is not empty or cannot be written.
    func scaffold(name: String, folder: String, handler: String, force: Bool) throws -> [String]

    /// The folder as the tar archive that `POST /bundles` takes.
    func archive(folder: String) throws -> [UInt8]

    /// Runs the function in `run.folder` and serves it on loopback; returns when it ended, or at once when detached.
    ///
    /// - Returns: The exit code for the process.
    func localRun(_ run: LocalRun) async throws -> Int32
}

/// How `functions localrun` starts a function.
package struct LocalRun: Sendable, Equatable {
    package var name: String
    /// Folder with the handler.
    package var folder: String
    /// Handler file inside the folder.
    package var handler: String
    /// File with `envs` and `secrets`; a missing one is only worth a warning.
    package var config: String?
    package var port: Int
    /// NOTSET, DEBUG, INFO, WARNING, ERROR or CRITICAL.
    package var logLevel: String
    package var detach: Bool

    package init(
        name: String,
        folder: String,
        handler: String,
        config: String?,
        port: Int,
        logLevel: String,
        detach: Bool
    ) {
        self.name = name
        self.folder = folder
        self.handler = handler
        self.config = config
        self.port = port
        self.logLevel = logLevel
        self.detach = detach
    }
}
