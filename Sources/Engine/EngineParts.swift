// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import API
import Broker
import Catalog
import EventLog
import Foundation
import Functions
import Groups
import Lake
import Logging
import MartletCore
import NIOPosix
import OTLP
import Pipelines
import Tables
import Telemetry
import TelemetryExport
import Topics
import Transactions
import Triggers
import WorkerGateway
import Workers

/// The engine's moving parts, joined over its stores.
struct EngineParts: Sendable {
    let layout: DataLayout
    let stores: EngineStores
    let gateway: WorkerGateway
    let pipelines: PipelineRuntime
    let pipelineService: PipelineService
    let deadLetters: DeadLetterService
    let topics: TopicService
    /// Consumer groups, for every door.
    let groups: GroupCoordinator
    let records: RecordService
    let transactions: TransactionCoordinator
    /// Groups that are read for by subscribers over gRPC.
    let subscriptions: SubscriptionHub
    /// Groups that are read for over HTTP.
    let groupReaders: GroupReaders
    let tables: TableRuntime
    let secrets: SecretService
    let triggers: TriggerRuntime
    let views: ViewService
    let triggerService: TriggerService
    let statements: StatementBoard
    let meter = ProcessorMeter()
    /// Sends telemetry on; nil where nothing is to be sent.
    let exporter: TelemetryExporter?
    /// Takes telemetry from outside, for the store alone.
    let otlp: OTLPReceiver
    let telemetry: EngineTelemetry

    /// Joins them; nothing runs yet.
    ///
    /// - Throws: `ServiceError` naming a setting that cannot be used.
    init(_ stores: EngineStores, _ configuration: EngineConfiguration, _ layout: DataLayout, _ logger: Logger) throws {
        self.layout = layout
        self.stores = stores
        exporter = try TelemetryExporter(configuration, logger)
        otlp = OTLPReceiver(intake: stores.telemetry)
        let sink = TelemetryFanOut(store: stores.telemetry, exporter: exporter, signals: configuration.telemetrySignals)
        let catalog = stores.catalog
        let producer = RecordProducer(log: stores.log)
        let registry = WorkerRegistry()
        let dispatch = Self.dispatch(stores, sink, producer, registry, meter, configuration, layout, logger)
        gateway = WorkerGateway(
            socketPath: layout.gatewaySocket,
            registry: registry,
            services: EngineGateway(
                lake: stores.lake,
                telemetry: sink,
                producer: producer,
                broker: configuration.broker,
                metrics: stores.metrics
            ),
            logger: logger
        )
        let pipelines = PipelineRuntime(services: dispatch)
        self.pipelines = pipelines
        deadLetters = DeadLetterService(catalog: catalog, services: dispatch)
        topics = TopicService(catalog: catalog, log: stores.log, producer: producer)
        records = RecordService(topics: topics, log: stores.log, producer: producer)
        (groups, transactions) = Self.coordinators(stores.log, configuration, logger)
        subscriptions = Self.subscriptions(stores.log, groups, logger)
        groupReaders = GroupReaders(hub: subscriptions, log: stores.log) { [topics] in try await topics.get($0).name }
        tables = Self.tables(stores, sink, configuration, logger)
        let declared = PipelineTables(tables: TableService(runtime: tables, temporaryDirectory: layout.temporary))
        pipelineService = PipelineService(catalog: catalog, runtime: pipelines, tables: declared)
        stores.telemetry.read(from: tables, in: stores.lake)
        statements = Self.statements(stores.lake, tables, configuration, logger)
        secrets = SecretService(catalog: catalog, store: stores.secrets)
        let triggers = TriggerRuntime(
            catalog: catalog,
            inventory: stores.inventory,
            log: stores.log,
            producer: producer,
            telemetry: sink,
            settings: Self.triggerSettings(configuration),
            logger: logger,
            metrics: stores.metrics
        )
        self.triggers = triggers
        stores.metrics.add(pipelines)
        stores.metrics.add(LogMetricSource(log: stores.log, owners: { pipelines.groupOwners() }))
        stores.metrics.add(ProcessMetricSource(directory: layout.root, telemetry: stores.telemetry))
        telemetry = EngineTelemetry(
            store: stores.telemetry,
            registry: stores.metrics,
            collector: MetricCollector(registry: stores.metrics, sink: sink)
        )
        views = ViewService(
            catalog: catalog,
            board: triggers.board,
            dataDirectory: layout.root,
            onChange: { await triggers.reload() }
        )
        triggerService = TriggerService(
            catalog: catalog,
            board: triggers.board,
            onChange: { await triggers.reload() }
        )
    }

    private static func subscriptions(
        _ log: LocalLog,
        _ groups: GroupCoordinator,
        _ logger: Logger
    ) -> SubscriptionHub {
        SubscriptionHub(log: log, coordinator: groups, explain: { $0.asServiceError }, logger: logger)
    }

    private static func coordinators(
        _ log: LocalLog,
        _ configuration: EngineConfiguration,
        _ logger: Logger
    ) -> (GroupCoordinator, TransactionCoordinator) {
        let transactions = TransactionCoordinator(log: log, logger: logger)
        let store = LogGroupStore(
            log: log,
            unstable: { transactions.pendingOffsets(of: $0) },
            unfinished: { transactions.pendingGroups }
        )
        var settings = GroupSettings()
        settings.offsetsRetention = .seconds(configuration.groupRetentionHours * 3600)
        settings.membersMax = configuration.groupMembersMax
        settings.sessionTimeoutMin = .seconds(configuration.groupSessionSecondsMin)
        settings.sessionTimeoutMax = .seconds(configuration.groupSessionSecondsMax)
        return (GroupCoordinator(store: store, settings: settings, logger: logger), transactions)
    }

    private static func tables(
        _ stores: EngineStores,
        _ sink: any TelemetrySink,
        _ configuration: EngineConfiguration,
        _ logger: Logger
    ) -> TableRuntime {
        TableRuntime(
            catalog: stores.catalog,
            log: stores.log,
            lake: stores.lake,
            telemetry: sink,
            logger: logger,
            maintenanceInterval: .seconds(configuration.tableMaintenanceSeconds),
            sinkMemoryBytes: configuration.sinkMemoryBytes
        )
    }

    private static func triggerSettings(_ configuration: EngineConfiguration) -> TriggerSettings {
        var settings = TriggerSettings()
        settings.authority = configuration.authority
        settings.broker = configuration.broker
        return settings
    }

    private static func statements(
        _ lake: Lake,
        _ tables: TableRuntime,
        _ configuration: EngineConfiguration,
        _ logger: Logger
    ) -> StatementBoard {
        var limits = StatementLimits()
        limits.idle = .seconds(configuration.sqlIdleSeconds)
        return StatementBoard(
            limits: limits,
            open: { request, control in
                try await lake.query(
                    TableRuntime.rewritten(request.sql),
                    parameters: request.parameters.map(LakeTables.parameter),
                    timeout: request.timeout,
                    allowWrites: request.write,
                    names: try await tables.names(
                        in: request.sql,
                        options: QueryOptions(maxStaleness: request.maxStaleness, asOf: request.asOf)
                    ),
                    control: control
                )
            },
            explain: { $0.asServiceError },
            logger: logger
        )
    }

    private static func dispatch(
        _ stores: EngineStores,
        _ telemetry: any TelemetrySink,
        _ producer: RecordProducer,
        _ registry: WorkerRegistry,
        _ meter: ProcessorMeter,
        _ configuration: EngineConfiguration,
        _ layout: DataLayout,
        _ logger: Logger
    ) -> DispatchServices {
        DispatchServices(
            log: stores.log,
            producer: producer,
            launcher: ProcessWorkerLauncher(
                functions: stores.functions,
                secrets: stores.secrets,
                layout: layout,
                authority: configuration.authority,
                broker: configuration.broker,
                instance: String(UInt32.random(in: .min ... .max), radix: 36)
            ),
            backend: ProcessBackend(logger: logger),
            registry: registry,
            telemetry: telemetry,
            loops: MultiThreadedEventLoopGroup.singleton,
            idleProcessorShare: { meter.idleShare },
            authority: configuration.authority,
            broker: configuration.broker,
            deadLetterTopic: configuration.deadLetterTopic,
            logger: logger,
            metrics: stores.metrics
        )
    }

    /// Reads for groups, over gRPC and over HTTP, until cancelled.
    func readForGroups() async {
        async let readers: Void = groupReaders.run()
        await subscriptions.run()
        await readers
    }

    /// What the API serves.
    func services(engine: any EngineServices) -> Services {
        Services(
            views: views,
            triggers: triggerService,
            functions: stores.functions,
            pipelines: pipelineService,
            topics: topics,
            secrets: secrets,
            deadLetters: deadLetters,
            tables: LakeTables(
                lake: stores.lake,
                temporaryDirectory: layout.temporary,
                followers: TableService(runtime: tables, temporaryDirectory: layout.temporary),
                runtime: tables
            ),
            statements: statements,
            telemetry: telemetry,
            engine: engine,
            otlp: otlp,
            groups: GroupService(coordinator: groups, log: stores.log),
            groupReaders: groupReaders,
            records: records,
            kafkaAccess: stores.access.service
        )
    }
}
