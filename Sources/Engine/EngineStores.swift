// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import DuckDB
import EventLog
import Functions
import Lake
import Logging
import MartletCore
import Telemetry

/// Everything durable below the data directory, opened.
struct EngineStores: Sendable {
    let catalog: Catalog
    let inventory: ElementInventory
    let secrets: SecretStore
    let log: LocalLog
    let library: DuckDBLibrary
    let telemetry: TelemetryStore
    let lake: Lake
    let functions: FunctionService
    /// Why functions can neither be built nor run; nil where they can.
    let functionsObstacle: ServiceError?
    let access: KafkaAccess
    let metrics = MetricRegistry()

    /// Opens them; the process ends where one cannot be opened, which closes the others.
    init(_ configuration: EngineConfiguration, _ layout: DataLayout, _ logger: Logger) async throws {
        let python = PythonRuntime(environment: configuration.pythonEnvironment, sdk: configuration.pythonSDK)
        if let obstacle = python.obstacle {
            logger.warning("\(obstacle.message)", metadata: ["fix": "\(obstacle.fix ?? "")"])
        }
        functionsObstacle = python.obstacle
        async let opening = DatabaseThread(name: "duckdb-load").run {
            try DuckDBLibrary.load(explicit: configuration.duckDBLibrary, candidates: python.libraryCandidates)
        }
        let events = EngineEvents()
        try LostData.refuseMissingCatalog(layout)
        catalog = try Catalog.open(
            path: layout.catalog,
            observer: { events.note($0) },
            onTrouble: { logger.error("the catalog is damaged or cannot be written", metadata: ["error": "\($0)"]) }
        )
        // Checkpoints and the log bring back what a crash takes from the inventory, so it need not be flushed at every commit.
        inventory = try ElementInventory.open(path: layout.inventory, durability: .relaxed)
        secrets = try await SecretStore(catalog: catalog, keyPath: layout.secretKey)
        log = try await LocalLog.open(
            directory: layout.root,
            settings: LocalLogSettings(
                metrics: LogMetrics(metrics),
                onPartitionStopped: { events.partitionStopped($0, $1) }
            ),
            logger: logger
        )
        library = try await opening
        telemetry = TelemetryStore(log: log, authority: configuration.authority, logger: logger)
        events.connect(telemetry)
        var settings = LakeConfiguration(
            directory: layout.tables,
            libraryPath: configuration.duckDBLibrary,
            libraryCandidates: python.libraryCandidates
        )
        settings.memoryBytesMax = configuration.tableMemoryBytes
        settings.spillBytesMax = configuration.tableSpillBytes
        settings.queryTimeout = .seconds(configuration.sqlTimeoutSeconds)
        lake = Lake(configuration: settings, logger: logger)
        var building = FunctionSettings(
            root: layout.functions,
            python: python.python,
            runtimePaths: python.paths,
            installsSystemPackages: configuration.installsSystemPackages
        )
        building.obstacle = python.obstacle
        functions = FunctionService(catalog: catalog, settings: building)
        try await functions.start()
        access = try await KafkaAccess(catalog, secrets, metrics, configuration)
    }

    /// Flushes and closes, in the reverse order of use.
    func close() async {
        await telemetry.flush()
        await lake.close()
        await log.close()
        try? inventory.close()  // Everything committed is durable; there is nobody left to tell.
        try? catalog.close()
    }
}
