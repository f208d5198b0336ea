// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

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
