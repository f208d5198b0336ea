// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import EventLog
import Foundation
import Lake
import Logging
import MartletCore
import Synchronization

/// The keyed tables of this engine that follow topics, and their sinks.
final class KeyedTables: Sendable {
    private struct State {
        var tables: [String: KeyedTable] = [:]
        var sinks: [String: KeyedSink] = [:]
        /// Append tables that are being made, by name.
        var reserved: [String: FileTable] = [:]
    }

    private let services: SinkServices
    private let appendTables: TableRegistry
    private let onStart: @Sendable (KeyedSink) -> Void
    private let state = Mutex(State())
    private let claiming = Mutex(())

    /// `onStart` is handed every sink that is to run.
    init(services: SinkServices, appendTables: TableRegistry, onStart: @escaping @Sendable (KeyedSink) -> Void) {
        self.services = services
        self.appendTables = appendTables
        self.onStart = onStart
        // The table of offsets stays behind when the last keyed table is deleted.
        claim()
    }

    func all() -> [KeyedTable] { state.withLock { $0.tables.values.sorted { $0.name < $1.name } } }
    func find(_ name: String) -> KeyedTable? { state.withLock { $0.tables[name.lowercased()] } }
    func sink(of table: KeyedTable) -> KeyedSink? { state.withLock { $0.sinks[table.guid] } }
    func store(of table: KeyedTable) -> KeyedStore { KeyedStore(table: table, lake: services.space.lake) }

    /// Takes up a table that the catalog has; DuckDB is opened by its sink.
    @discardableResult
    func open(_ resource: Resource<TableSpec>) -> KeyedTable {
        let table = KeyedTable(resource)
        state.withLock { $0.tables[table.name.lowercased()] = table }
        claim()
        start(table)
        return table
    }

    /// Makes a new table in DuckDB, and takes it up.
    ///
    /// - Throws: where DuckDB cannot make it; nothing is left then.
    func create(_ resource: Resource<TableSpec>) async throws -> KeyedTable {
        try await sweep()
        let table = KeyedTable(resource)
        try await store(of: table).open(starts: try await Self.starts(resource.spec, services.log))
        state.withLock { $0.tables[table.name.lowercased()] = table }
        claim()
        start(table)
        return table
    }

    /// Runs `body` while the table's sink stands still, then starts a new one; one at a time, so that there is one sink.
    func exclusively<R: Sendable>(_ table: KeyedTable, _ body: () async throws -> R) async throws -> R {
        try await table.administration.pass {
            if let sink = state.withLock({ $0.sinks.removeValue(forKey: table.guid) }) { await sink.stopped() }
            // It may have been deleted meanwhile.
            defer { if find(table.name) === table { start(table) } }
            return try await body()
        }
    }

    /// Lets go of a table that the catalog no longer has, and removes what DuckDB has of it.
    func close(_ table: KeyedTable) async throws {
        state.withLock { $0.tables[table.name.lowercased()] = nil }
        await table.administration.pass {
            await state.withLock { $0.sinks.removeValue(forKey: table.guid) }?.stopped()
        }
        try await store(of: table).drop()
        claim()
        do {
            try await services.log.deleteGroup(TableCommitter.group(of: table.name))
        } catch {
            services.logger.debug("a table's consumer group was not deleted", metadata: ["error": "\(error)"])
        }
    }

    /// Ends all sinks.
    func stop() {
        for sink in state.withLock({ Array($0.sinks.values) }) { sink.stop() }
    }

    /// Removes what DuckDB has of tables that were deleted.
    func sweep() async throws {
        try await KeyedLeftovers.sweep(services.space.lake) { [services] in
            Set(try await services.catalog.tables.all().map(\.guid))
        }
    }

    /// Removes what a crash left of deleted tables, where there can be any: DuckDB is not opened for nothing.
    func sweepLeftovers() async {
        guard FileManager.default.fileExists(atPath: services.space.lake.configuration.databasePath) else { return }
        do { try await sweep() } catch {
            services.logger.warning(
                "what is left of deleted tables cannot be removed; the next start tries again",
                metadata: ["error": "\(error)"]
            )
        }
    }

    /// Keeps functions and SQL from writing where only the topic may; called again whenever a table comes or goes.
    func claim() {
        // One at a time: an older list must not take the place of a newer one.
        claiming.withLock { _ in
            let reserved = state.withLock { Array($0.reserved.values) }
            let files = appendTables.all().map { Self.fileTable($0.name, $0.spec) } + reserved
            let appended = files.filter { !$0.isInternal }.flatMap { [$0.name, $0.rejects] }
            let names = all().flatMap(\.storedNames) + appended
            services.space.lake.setFollowers(names + [KeyedStore.offsetsTable])
            services.space.lake.setFileTables(files)
        }
    }

    /// Runs `body`, which makes an append table, with the table's names kept from everybody else.
    ///
    /// - Throws: `.alreadyExists` where a table or view has one of them, or is being given it.
    func reserving<R: Sendable>(_ name: String, _ spec: TableSpec, _ body: () async throws -> R) async throws -> R {
        let table = Self.fileTable(name, spec)
        state.withLock { $0.reserved[name.lowercased()] = table }
        claim()
        defer {
            state.withLock { $0.reserved[name.lowercased()] = nil }
            claim()
        }
        for taken in [table.name, table.rejects] {
            guard try await services.space.lake.isFree(taken) else { throw TableDocument.isTaken(name, by: taken) }
        }
        return try await body()
    }

    private static func fileTable(_ name: String, _ spec: TableSpec) -> FileTable {
        FileTable(
            name: name,
            topic: spec.topic,
            rejects: name + TableRegistry.rejectsSuffix,
            isInternal: spec.isInternal
        )
    }

    private func start(_ table: KeyedTable) {
        let sink = KeyedSink(table: table, services: services)
        state.withLock { $0.sinks[table.guid] = sink }
        onStart(sink)
    }

    /// The offsets a new table begins at.
    static func starts(_ spec: TableSpec, _ log: any EventLog) async throws -> [Int32: Int64] {
        guard let description = try await log.topic(spec.topic) else {
            throw ServiceError.notFound(.topics, spec.topic)
        }
        var starts: [Int32: Int64] = [:]
        for partition in 0..<description.partitions {
            let bounds = try log.bounds(TopicPartition(topic: spec.topic, partition: partition))
            starts[partition] = spec.start == .earliest ? bounds.start : bounds.stable
        }
        return starts
    }
}
