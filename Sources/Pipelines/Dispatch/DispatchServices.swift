// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import EventLog
package import Logging
package import MartletCore
package import NIOCore
package import Workers

/// What deployments share: the engine's own parts and settings.
package struct DispatchServices: Sendable {
    package var log: any EventLog
    package var producer: RecordProducer
    package var launcher: any WorkerLauncher
    package var backend: any WorkerBackend
    package var registry: WorkerRegistry
    package var telemetry: any TelemetrySink
    package var loops: any EventLoopGroup
    /// Share of processor time that is idle, 0...1, over the last second.
    package var idleProcessorShare: @Sendable () -> Double
    /// First part of event types and sources.
    package var authority: String
    /// First part of event subjects.
    package var broker: String
    package var deadLetterTopic: String
    package var logger: Logger
    package var metrics: MetricRegistry

    package init(
        log: any EventLog,
        producer: RecordProducer,
        launcher: any WorkerLauncher,
        backend: any WorkerBackend,
        registry: WorkerRegistry,
        telemetry: any TelemetrySink,
        loops: any EventLoopGroup,
        idleProcessorShare: @escaping @Sendable () -> Double,
        authority: String,
        broker: String,
        deadLetterTopic: String,
        logger: Logger,
        metrics: MetricRegistry = MetricRegistry()
    ) {
        self.log = log
        self.producer = producer
        self.launcher = launcher
        self.backend = backend
        self.registry = registry
        self.telemetry = telemetry
        self.loops = loops
        self.idleProcessorShare = idleProcessorShare
        self.authority = authority
        self.broker = broker
        self.deadLetterTopic = deadLetterTopic
        self.logger = logger
        self.metrics = metrics
    }
}
