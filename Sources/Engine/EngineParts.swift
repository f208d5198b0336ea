// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import API
import Catalog
import EventLog
import Foundation
import Functions
import Lake
import Logging
import MartletCore
import NIOPosix
import Pipelines
import Tables
import Telemetry
import Topics
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
    let tables: TableRuntime
    let secrets: SecretService
    let triggers: TriggerRuntime
    let views: ViewService
    let triggerService: TriggerService
    let statements: StatementBoard
    let meter = ProcessorMeter()

    /// Joins them; nothing runs yet.
    init(_ stores: EngineStores, _ configuration: EngineConfiguration, _ layout: DataLayout, _ logger: Logger) {
        self.layout = layout
        self.stores = stores
        let catalog = stores.catalog
        let producer = RecordProducer(log: stores.log)
        let registry = WorkerRegistry()
        let dispatch = Self.dispatch(stores, producer, registry, meter, configuration, layout, logger)
        gateway = WorkerGateway(
            socketPath: layout.gatewaySocket,
            registry: registry,
            services: EngineGateway(
                lake: stores.lake,
                telemetry: stores.telemetry,
                producer: producer,
                broker: configuration.broker
            ),
            logger: logger
        )
        statements = Self.statements(stores.lake, configuration, logger)
        pipelines = PipelineRuntime(services: dispatch)
        pipelineService = PipelineService(catalog: catalog, runtime: pipelines)
        deadLetters = DeadLetterService(catalog: catalog, services: dispatch)
        topics = TopicService(catalog: catalog, log: stores.log, producer: producer)
        tables = TableRuntime(
            catalog: catalog,
            log: stores.log,
            lake: stores.lake,
            telemetry: stores.telemetry,
            logger: logger
        )
        secrets = SecretService(catalog: catalog, store: stores.secrets)
        var settings = TriggerSettings()
        settings.authority = configuration.authority
        settings.broker = configuration.broker
        let triggers = TriggerRuntime(
            catalog: catalog,
            inventory: stores.inventory,
            log: stores.log,
            producer: producer,
            telemetry: stores.telemetry,
            settings: settings,
            logger: logger
        )
        self.triggers = triggers
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

    private static func statements(
        _ lake: Lake,
        _ configuration: EngineConfiguration,
        _ logger: Logger
    ) -> StatementBoard {
        var limits = StatementLimits()
        limits.idle = .seconds(configuration.sqlIdleSeconds)
        return StatementBoard(
            limits: limits,
            open: { request, control in
                try await lake.query(
                    request.sql,
                    parameters: request.parameters.map(LakeTables.parameter),
                    timeout: request.timeout,
                    allowWrites: request.write,
                    control: control
                )
            },
            explain: { $0.asServiceError },
            logger: logger
        )
    }

    private static func dispatch(
        _ stores: EngineStores,
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
            telemetry: stores.telemetry,
            loops: MultiThreadedEventLoopGroup.singleton,
            idleProcessorShare: { meter.idleShare },
            authority: configuration.authority,
            broker: configuration.broker,
            deadLetterTopic: configuration.deadLetterTopic,
            logger: logger
        )
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
            telemetry: stores.telemetry,
            engine: engine
        )
    }
}
