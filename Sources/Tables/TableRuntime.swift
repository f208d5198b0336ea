// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Catalog
import DuckDB
package import EventLog
import Foundation
package import Lake
package import Logging
package import MartletCore
import Synchronization

/// The tables that follow topics: runs a sink for each, keeps them in shape, and says what their names mean in a query.
package final class TableRuntime: Sendable {
    private enum Change: Sendable {
        case start(Sink)
        case startKeyed(KeyedSink)
    }

    /// What sinks may take where nothing else is said.
    package static let sinkMemoryBytes = 192 << 20

    let registry = TableRegistry()
    let services: SinkServices
    /// The tables with a key, which are none of ``registry``.
    let keyed: KeyedTables
    private let directory: String
    private let maintenanceInterval: Duration
    private let sinks = Mutex<[String: Sink]>([:])
    private let changes: AsyncStream<Change>
    private let changed: AsyncStream<Change>.Continuation

    /// Joins it to the engine's stores; nothing runs yet.
    ///
    /// Files are merged and removed every `maintenanceInterval`. All sinks together take no more than about `sinkMemoryBytes`.
    package init(
        catalog: Catalog,
        log: any EventLog,
        lake: Lake,
        telemetry: any TelemetrySink,
        logger: Logger,
        maintenanceInterval: Duration = .seconds(10),
        sinkMemoryBytes: Int = TableRuntime.sinkMemoryBytes
    ) {
        self.maintenanceInterval = maintenanceInterval
        let services = SinkServices(
            log: log,
            catalog: catalog,
            space: FreshSpace(lake: lake, logger: logger),
            telemetry: telemetry,
            memory: SinkMemory(limit: sinkMemoryBytes),
            logger: logger
        )
        directory = lake.configuration.appendDirectory
        let (changes, changed) = AsyncStream<Change>.makeStream()
        (self.changes, self.changed) = (changes, changed)
        self.services = services
        keyed = KeyedTables(services: services, appendTables: registry) { changed.yield(.startKeyed($0)) }
    }

    /// Loads all tables and sweeps what a crash left in their folders; before ``run()``.
    package func prepare() async throws {
        for resource in try await services.catalog.tables.all() {
            if resource.spec.key.isEmpty { try await open(resource) } else { keyed.open(resource) }
        }
        sweepFolders()
    }

    /// Runs the sinks until cancelled.
    package func run() async {
        await withDiscardingTaskGroup { group in
            group.addTask { await self.keyed.sweepLeftovers() }
            group.addTask { await self.maintain() }
            for await change in changes {
                switch change {
                case .start(let sink): group.addTask { await sink.run() }
                case .startKeyed(let sink): group.addTask { await sink.run() }
                }
            }
            for sink in sinks.withLock({ Array($0.values) }) { sink.stop() }
            keyed.stop()
            group.cancelAll()
        }
    }

    /// Ends the threads; after ``run()``.
    package func close() {
        services.space.stop()
    }

    // MARK: Tables

    /// Takes up a table the catalog has.
    @discardableResult
    func open(_ resource: Resource<TableSpec>) async throws -> AppendTable {
        let folder = TableFolder(root: "\(directory)/\(resource.name)")
        try folder.make()
        let content = try await services.catalog.appendTables.load(resource.guid)
        let known = try await services.catalog.appendTables.paths(resource.guid)
        let present = folder.files()
        let orphans = present.keys.filter { $0.hasPrefix("files/") && !known.contains($0) }
        if !orphans.isEmpty {
            folder.remove(orphans)
            services.logger.info(
                "files of commits that never were are removed",
                metadata: ["table": "\(resource.name)", "files": "\(orphans.count)"]
            )
        }
        folder.republish(content.files.map(\.path))
        let table = AppendTable(resource, folder: folder, content: content)
        services.note(damage: Self.damage(content.files, present), of: table)
        registry.add(table)
        keyed.claim()
        start(table)
        return table
    }

    /// Files that are gone or cut, as a look at the folder shows.
    private static func damage(_ files: [AppendTableFile], _ present: [String: Int64]) -> [String: String] {
        var damage: [String: String] = [:]
        for file in files where present[file.path] != file.bytes {
            let found = present[file.path].map { "it has \($0) bytes and the catalog says \(file.bytes)" }
            damage[file.path] = found ?? "it is not there"
        }
        return damage
    }

    /// Gives a table a sink of its own.
    func start(_ table: AppendTable) {
        let sink = Sink(table: table, services: services)
        sinks.withLock { $0[table.guid] = sink }
        changed.yield(.start(sink))
    }

    /// Runs `body` while the table's sink stands still with everything it took committed, then starts a new one.
    ///
    /// One at a time: two at once would leave two sinks, and the rows of both.
    func exclusively<R: Sendable>(_ table: AppendTable, _ body: () async throws -> R) async throws -> R {
        try await table.administration.pass {
            await halt(table)
            // It may have been deleted meanwhile.
            defer { if registry.find(table.name) === table { start(table) } }
            return try await body()
        }
    }

    private func halt(_ table: AppendTable) async {
        if let sink = sinks.withLock({ $0.removeValue(forKey: table.guid) }) {
            do { _ = try await sink.commit() } catch {
                // What cannot be committed now is read again from the topic.
                services.logger.warning(
                    "a table could not be committed before a change",
                    metadata: ["table": "\(table.name)", "error": "\(error)"]
                )
            }
            await sink.stopped()
        }
        table.with { $0.fresh = [] }
    }

    /// Lets go of a table that the catalog no longer has, and deletes its files.
    func close(_ table: AppendTable) async {
        registry.remove(table)
        keyed.claim()
        await table.administration.pass {
            if let sink = sinks.withLock({ $0.removeValue(forKey: table.guid) }) { await sink.stopped() }
            table.with { $0.fresh = [] }
        }
        try? FileManager.default.removeItem(atPath: table.layout.folder.root)  // The next start tries again.
        do {
            try await services.log.deleteGroup(TableCommitter.group(of: table.name))
        } catch {
            services.logger.debug("a table's consumer group was not deleted", metadata: ["error": "\(error)"])
        }
    }

    func sink(of table: AppendTable) -> Sink? { sinks.withLock { $0[table.guid] } }

    /// Folders of tables that were deleted while the engine could not remove them.
    private func sweepFolders() {
        let kept = Set(registry.all().map(\.name))
        for name in (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? [] where !kept.contains(name) {
            try? FileManager.default.removeItem(atPath: "\(directory)/\(name)")  // The next start tries again.
        }
    }

    private func maintain() async {
        while (try? await Task.sleep(for: maintenanceInterval)) != nil {
            for table in registry.all() {
                if Task.isCancelled { return }
                await TableMaintenance(table: table, services: services).run()
            }
        }
    }

    // MARK: Names in queries

    /// What table names mean in a query, with the states that AS OF wants loaded.
    ///
    /// - Throws: `ServiceError` `.notFound` for a table, a commit or a time there is none of.
    package func names(in sql: String, options: QueryOptions) async throws -> any QueryNames {
        // Only where something can be gained by it: reading a few files more is quicker than reading the statement twice.
        guard registry.all().contains(where: { $0.read { $0.files.count } >= Self.filesToPrune }) else {
            return try await names(in: sql, options: options, predicates: QueryPredicates())
        }
        let space = services.space
        _ = try await space.database()
        let predicates = try await space.planning.run { [registry] in
            try space.withConnection { connection in
                PredicateReader.read(sql, on: connection) { word in
                    registry.all().contains { $0.read { $0.columns.contains { $0.name.lowercased() == word } } }
                }
            }
        }
        return try await names(in: sql, options: options, predicates: predicates)
    }

    private static let filesToPrune = 4

    /// The same, with what is known of the query beforehand.
    package func names(
        in sql: String,
        options: QueryOptions,
        predicates: QueryPredicates
    ) async throws -> any QueryNames {
        var pinned: [String: [String: TableSnapshot]] = [:]
        for (name, version) in options.asOf {
            if let table = keyed.find(name) { throw Self.noHistory(table.name) }
            let table = try find(name)
            pinned[TableRegistry.key(name), default: [:]][""] = try await state(of: table, asOf: version)
        }
        for (name, version) in Self.versions(in: sql) {
            if let table = keyed.find(name) { throw Self.noHistory(table.name) }
            guard let table = registry.find(name) else { continue }
            pinned[TableRegistry.key(name), default: [:]][version] = try await state(of: table, asOf: version)
        }
        return TableNames(
            services: services,
            registry: registry,
            keyed: keyed,
            maxStaleness: options.maxStaleness,
            pinned: pinned,
            predicates: predicates
        )
    }

    /// The newest time in a TIMESTAMP column of a table's files, microseconds since 1970; nil where rows wait that are in no file.
    package func newestTime(_ name: String, column: String) throws -> Int64? {
        let snapshot = try find(name).snapshot()
        guard snapshot.fresh.allSatisfy({ $0.rowCount == 0 }) else { return nil }
        return snapshot.files.compactMap { $0.bounds[column].flatMap { CalendarText.parseTimestamp($0.max) } }.max()
    }

    func find(_ name: String) throws -> AppendTable {
        guard let table = registry.find(name) else { throw ServiceError.notFound(.tables, name) }
        return table
    }

    /// Refuses what needs commits that can be read again.
    static func noHistory(_ name: String) -> ServiceError {
        ServiceError(
            .failedPrecondition,
            "table '\(name)' has a key: it keeps the newest row of each key, and no history",
            fix:
                "an append table of the same topic has one (martlet tables create NAME --topic TOPIC), with AS OF each commit"
        )
    }

    private func state(of table: AppendTable, asOf version: String) async throws -> TableSnapshot {
        let tables = services.catalog.appendTables
        let number: Int64
        if let given = Int64(version) {
            number = given
        } else if let time = Timestamp.parse(version.uppercased()) {
            guard let found = try await tables.commit(table.guid, at: time) else {
                throw ServiceError(.notFound, "the table '\(table.name)' had no commit by \(version)")
            }
            number = found
        } else {
            throw ServiceError.invalid(
                field: "as_of",
                "'\(version)' is neither a commit's number nor a time",
                fix: "write for example 12 or 2026-11-21T10:00:00Z"
            )
        }
        let (files, schemas) = try await tables.snapshot(table.guid, asOf: number)
        let snapshot = TableSnapshot(
            layout: table.layout,
            columns: schemas.last?.columns ?? [],
            schemas: TableColumns.byVersion(schemas),
            files: files,
            fresh: [],
            commit: number
        )
        table.lend(snapshot)
        return snapshot
    }

    /// Names of the form `"trips@12"` that a statement may hold, lower case.
    private static func versions(in sql: String) -> [(name: String, version: String)] {
        guard sql.utf8.contains(UInt8(ascii: "@")) else { return [] }
        return sql.split(separator: "\"").compactMap { piece in
            guard let mark = piece.firstIndex(of: "@"), mark != piece.startIndex else { return nil }
            return (String(piece[..<mark]).lowercased(), String(piece[piece.index(after: mark)...]).lowercased())
        }
    }
}
