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
    let secrets: SecretService
    let triggers: TriggerRuntime
    let views: ViewService
    let triggerService: TriggerService
    let meter = ProcessorMeter()
    let telemetry: EngineTelemetry

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
                broker: configuration.broker,
                metrics: stores.metrics
            ),
            logger: logger
        )
        let pipelines = PipelineRuntime(services: dispatch)
        self.pipelines = pipelines
        pipelineService = PipelineService(catalog: catalog, runtime: pipelines)
        deadLetters = DeadLetterService(catalog: catalog, services: dispatch)
        topics = TopicService(catalog: catalog, log: stores.log, producer: producer)
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
            collector: MetricCollector(registry: stores.metrics, sink: stores.telemetry)
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
            logger: logger,
            metrics: stores.metrics
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
            tables: LakeTables(lake: stores.lake, temporaryDirectory: layout.temporary),
            telemetry: telemetry,
            engine: engine
        )
    }
}
