// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore
package import Workers

/// What the gateway calls on a worker's behalf; wired by the engine.
package protocol GatewayServices: Sendable {
    /// Applies a table transaction as the worker protocol writes it, and returns the answer's JSON; durable on return.
    func commitTables(_ body: [UInt8], from worker: WorkerRegistry.Context) async throws -> [UInt8]
    /// Publishes events to a topic; durable on return.
    func emit(topic: String, events: [CloudEvent], from worker: WorkerRegistry.Context) async throws -> Int
    /// Takes OTLP/JSON of one signal.
    ///
    /// - Throws: `ServiceError` `.invalid` where it is none.
    func telemetry(_ signal: TelemetrySignal, _ body: [UInt8], from worker: WorkerRegistry.Context) throws
}
