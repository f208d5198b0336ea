// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore

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
