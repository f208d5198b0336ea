// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// How a worker of a bundle is started; see docs/formats/worker-protocol.md.
package struct WorkerLaunch: Sendable, Equatable {
    /// The environment's Python.
    package var executable: String
    /// What it is started with.
    package var arguments: [String]
    /// Variables to add to those the engine gives every worker.
    package var environment: [String: String]
    /// Variables that must not be inherited, because they would change what Python imports.
    package var removedVariables: [String]
    /// The bundle's code folder.
    package var appPath: String
    /// Handler file inside the code folder.
    package var handler: String
}
