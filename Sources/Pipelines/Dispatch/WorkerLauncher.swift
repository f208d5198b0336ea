// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Workers

/// Knows how to start workers of a deployment; wired by the engine.
package protocol WorkerLauncher: Sendable {
    /// Describes a worker of `plan`, with its secrets laid out and its socket chosen.
    ///
    /// - Throws: `ServiceError` where the bundle or a secret is missing.
    func spec(for plan: DeploymentPlan, workerID: String) async throws -> WorkerSpec
}
