// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import API
import Broker
import Catalog
import Documents
import EventLog
import Foundation
import Functions
import GRPCAPI
import Glibc
import Groups
import Lake
package import Logging
import MartletCore
import NIOPosix
import Pipelines
import ServiceLifecycle
import Synchronization
import Tables
import Telemetry
import TelemetryExport
import Topics
import Transactions
import Triggers
import UnixSignals
import WorkerGateway
import Workers

/// The whole engine: opens the data directory, wires the modules and runs them until a signal stops it.
package struct Engine: Sendable {
    /// Version of the program.
    package static let version = "0.1.0"

    let configuration: EngineConfiguration
    let logger: Logger

    package init(configuration: EngineConfiguration, logger: Logger) {
        self.configuration = configuration
        self.logger = logger
    }

    /// Runs until SIGINT or SIGTERM.
    ///
    /// - Parameter onReady: Called with where the servers listen once all of them do.
    /// - Throws: `ServiceError` saying what keeps the engine from starting.
    package func run(onReady: @escaping @Sendable (EngineAddresses) -> Void) async throws {
        do {
            try await start(onReady: onReady)
        } catch {
            throw error.asServiceError
        }
    }

    private func start(onReady: @escaping @Sendable (EngineAddresses) -> Void) async throws {
        AllocatorSettings.apply()
        // A limit on the size of files is to be an error of the write, which is answered, and not the end of the process.
        signal(SIGXFSZ, SIG_IGN)
        let layout = try DataLayout(dataDirectory: configuration.dataDirectory)
        let lock = try DataDirectoryLock(directory: layout.root)
        defer { lock.release() }
        Self.clearLeftovers(layout)
        let stores = try await EngineStores(configuration, layout, logger)
        do {
            let parts = try EngineParts(stores, configuration, layout, logger)
            try await LostData.report(parts)
            try await parts.transactions.recover()
            try await parts.topics.prepare(
                defaultTopic: configuration.defaultTopic,
                deadLetterTopic: configuration.deadLetterTopic
            )
            let retention = Duration.seconds(configuration.telemetryRetentionDays * 86_400)
            try await parts.tables.prepare(internal: SystemTable.allCases.map { $0.definition(retention: retention) })
            parts.tables.setViews(SystemTable.views)
            try await parts.tables.prepare()
            let began = Self.event("Started", "Martlet \(Self.version) serves \(layout.root)")
            stores.telemetry.record(events: [began])
            try await serve(parts, onReady: onReady)
            stores.telemetry.record(events: [Self.event("Stopped", "Martlet \(Self.version) was asked to stop")])
            await parts.telemetry.collector.collect()
            parts.tables.close()
        } catch {
            await stores.close()
            throw error
        }
        await stores.close()
    }

    private func serve(
        _ parts: EngineParts,
        onReady: @escaping @Sendable (EngineAddresses) -> Void
    ) async throws {
        let configuration = configuration
        var api = APIConfiguration(parseDocument: { try DocumentParser.parse($0, contentType: $1) })
        api.host = configuration.host
        api.port = configuration.port
        api.token = configuration.token
        api.readToken = configuration.readToken
        api.version = Self.version
        api.explain = { error in
            let explained = error.asServiceError
            return explained.code == .internal ? nil : explained
        }
        let progress = StartProgress()
        let servers = 1 + (configuration.grpcEnabled ? 1 : 0) + (configuration.kafkaEnabled ? 1 : 0)
        let addresses = ListeningAddresses(servers: servers, onReady)
        let status = EngineStatusService(parts: parts, startedAt: Date(), progress: progress, addresses: addresses)
        let server = try APIServer(
            configuration: api,
            services: parts.services(engine: status),
            logger: logger,
            onListening: { port in addresses.apiListens(configuration.host, port) }
        )
        let grpc = try grpcServer(parts, status, addresses)
        let kafka = try await kafkaServer(parts, addresses)
        let exporter = parts.exporter.map { exporter in
            DrainingService("telemetry export", run: { await exporter.run() }, drain: { await exporter.drain() })
        }
        // Stopped in the reverse order, so that the exporter still sends what the others leave behind.
        let before: [any Service] = exporter.map { [$0] } ?? []
        let after: [any Service] = (grpc.map { [$0] } ?? []) + (kafka.map { [$0] } ?? [])
        let services: [any Service] = [
            BackgroundService("log", logger) { await parts.stores.log.run() },
            BackgroundService("tables", logger) { try await parts.stores.lake.run() },
            BackgroundService("table sinks", logger) { await parts.tables.run() },
            BackgroundService("consumer groups", logger) { await parts.groups.run() },
            BackgroundService("subscriptions", logger) { await parts.readForGroups() },
            BackgroundService("transactions", logger) { await parts.transactions.run() },
            BackgroundService("statements", logger) { await parts.statements.run() },
            BackgroundService("telemetry", logger) { await parts.stores.telemetry.run() },
            BackgroundService("metrics", logger) { await parts.telemetry.collector.run() },
            BackgroundService("processor meter", logger) { await parts.meter.run() },
            BackgroundService("memory", logger) { await AllocatorSettings.trimRegularly() },
            BackgroundService("disk", logger) { await FreeSpace.watch(parts.layout, logger) },
            parts.gateway,
            DrainingService(
                "pipelines",
                run: { await parts.pipelines.run() },
                drain: { await parts.pipelines.drainAll() }
            ),
            BackgroundService("triggers", logger) { try await parts.triggers.run() },
            ResumingService(parts.pipelineService, progress, logger),
            server,
        ]
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: (before + services + after).map {
                    .init(
                        service: $0,
                        successTerminationBehavior: .ignore,
                        failureTerminationBehavior: .gracefullyShutdownGroup
                    )
                },
                gracefulShutdownSignals: [.sigterm, .sigint],
                logger: quiet()
            ).limited()
        )
        try await group.run()
    }

    /// Told to say much, the group of services writes them down with all they hold, tokens among it.
    private func quiet() -> Logger {
        var quiet = logger
        quiet.logLevel = max(.info, logger.logLevel)
        return quiet
    }

    private static func event(_ action: String, _ message: String) -> EngineEvent {
        EngineEvent("Engine", action, "martlet", message, details: ["version": version])
    }

    /// What workers of an engine that was killed left behind: sockets, secrets laid out as files, half exports.
    private static func clearLeftovers(_ layout: DataLayout) {
        for folder in [layout.temporary, layout.sockets] {
            for name in (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? [] {
                try? FileManager.default.removeItem(atPath: "\(folder)/\(name)")  // The next start tries again.
            }
        }
    }
}

extension ServiceGroupConfiguration {
    fileprivate func limited() -> Self {
        var limited = self
        limited.maximumGracefulShutdownDuration = .seconds(30)
        limited.maximumCancellationDuration = .seconds(10)
        return limited
    }
}
