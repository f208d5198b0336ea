// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import API
import Catalog
import DuckDB
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

/// Every part of a running engine, opened and joined.
struct EngineParts: Sendable {
    let configuration: EngineConfiguration
    let layout: DataLayout
    let catalog: Catalog
    let inventory: ElementInventory
    let log: LocalLog
    let lake: Lake
    let telemetry: TelemetryStore
    let library: DuckDBLibrary
    let functions: FunctionService
    let gateway: WorkerGateway
    let pipelines: PipelineRuntime
    let pipelineService: PipelineService
    let deadLetters: DeadLetterService
    let topics: TopicService
    let secrets: SecretService
    let triggers: TriggerRuntime
    let views: ViewService
    let triggerService: TriggerService
    let meter: ProcessorMeter

    /// Opens everything below the data directory; what was opened is closed again where a later part fails.
    static func open(_ configuration: EngineConfiguration, _ layout: DataLayout, _ logger: Logger) async throws -> EngineParts {
        let python = try PythonRuntime(environment: configuration.pythonEnvironment, sdk: configuration.pythonSDK)
        async let opening = DatabaseThread(name: "duckdb-load").run {
            try DuckDBLibrary.load(explicit: configuration.duckDBLibrary, candidates: python.libraryCandidates)
        }
        let catalog = try Catalog.open(path: layout.catalog)
        let inventory = try ElementInventory.open(path: layout.inventory, durability: .relaxed)
        let secretStore = try await SecretStore(catalog: catalog, keyPath: layout.secretKey)
        let log = try await LocalLog.open(directory: layout.root, logger: logger)
        let producer = RecordProducer(log: log)
        let library = try await opening
        let telemetry = try await TelemetryStore.open(
            library: library,
            path: layout.telemetry + "/telemetry.duckdb",
            temporaryDirectory: layout.temporary,
            retention: .seconds(configuration.telemetryRetentionDays * 86_400),
            logger: logger
        )
        var lakeSettings = LakeConfiguration(
            directory: layout.tables,
            libraryPath: configuration.duckDBLibrary,
            libraryCandidates: python.libraryCandidates
        )
        lakeSettings.memoryBytesMax = configuration.tableMemoryBytes
        let lake = Lake(configuration: lakeSettings, logger: logger)
        let functions = FunctionService(
            catalog: catalog,
            settings: FunctionSettings(
                root: layout.functions,
                python: python.python,
                runtimePaths: python.paths,
                installsSystemPackages: configuration.installsSystemPackages
            )
        )
        try await functions.start()
        let registry = WorkerRegistry()
        let meter = ProcessorMeter()
        let dispatch = DispatchServices(
            log: log,
            producer: producer,
            launcher: ProcessWorkerLauncher(
                functions: functions,
                secrets: secretStore,
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
            logger: logger
        )
        let pipelines = PipelineRuntime(services: dispatch)
        let topics = TopicService(catalog: catalog, log: log, producer: producer)
        try await topics.prepare(defaultTopic: configuration.defaultTopic, deadLetterTopic: configuration.deadLetterTopic)
        var triggerSettings = TriggerSettings()
        triggerSettings.authority = configuration.authority
        triggerSettings.broker = configuration.broker
        let triggers = TriggerRuntime(
            catalog: catalog,
            inventory: inventory,
            log: log,
            producer: producer,
            telemetry: telemetry,
            settings: triggerSettings,
            logger: logger
        )
        return EngineParts(
            configuration: configuration,
            layout: layout,
            catalog: catalog,
            inventory: inventory,
            log: log,
            lake: lake,
            telemetry: telemetry,
            library: library,
            functions: functions,
            gateway: WorkerGateway(
                socketPath: layout.gatewaySocket,
                registry: registry,
                services: EngineGateway(lake: lake, telemetry: telemetry, producer: producer, broker: configuration.broker),
                logger: logger
            ),
            pipelines: pipelines,
            pipelineService: PipelineService(catalog: catalog, runtime: pipelines),
            deadLetters: DeadLetterService(catalog: catalog, services: dispatch),
            topics: topics,
            secrets: SecretService(catalog: catalog, store: secretStore),
            triggers: triggers,
            views: ViewService(
                catalog: catalog,
                board: triggers.board,
                dataDirectory: layout.root,
                onChange: { await triggers.reload() }
            ),
            triggerService: TriggerService(
                catalog: catalog,
                board: triggers.board,
                onChange: { await triggers.reload() }
            ),
            meter: meter
        )
    }

    /// What the API serves.
    func services(engine: any EngineServices) -> Services {
        Services(
            views: views,
            triggers: triggerService,
            functions: functions,
            pipelines: pipelineService,
            topics: topics,
            secrets: secrets,
            deadLetters: deadLetters,
            tables: LakeTables(lake: lake, temporaryDirectory: layout.temporary),
            telemetry: telemetry,
            engine: engine
        )
    }

    /// Flushes and closes, in the reverse order of use.
    func close() async {
        await telemetry.close()
        await lake.close()
        await log.close()
        try? inventory.close()  // Everything committed is durable; there is nobody left to tell.
        try? catalog.close()
    }
}
