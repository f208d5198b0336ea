// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import DuckDB
import Lake
import MartletCore

/// Records of a topic as rows, deletions and rejects in DuckDB's database in memory, ready to be put into a keyed table.
struct KeyedRound: Sendable {
    typealias Column = AppendTableSchemaVersion.Column

    /// Of each key the newest record, with `deletes` and then the columns by their place.
    let latest: String
    let rejectsTable: String
    /// The table's columns as they have to be for these rows.
    let columns: [Column]
    /// Where each column of ``columns`` stands in ``latest``, by its name in lower case.
    let places: [[UInt8]: String]
    let deletes: Int64
    let upserts: Int64
    let rejects: Int
    /// The offsets after the records, by partition.
    let offsets: [Int32: Int64]

    /// A column's name in ``latest``.
    func place(of column: String) -> String { places[KeyedTable.folded(column)] ?? "NULL" }
}

/// Turns fetched records into rounds, one after the other; owns the tables in memory that they are put into.
final class KeyedStage: Sendable {
    private let table: KeyedTable
    private let space: FreshSpace
    private let batch: RowBatch
    private let charge: SinkMemory.Charge
    private let keepsOrigin: Bool
    private let rows: String
    private let latest: String
    private let rejects: String

    /// Begins with the columns the table has now.
    init(_ table: KeyedTable, space: FreshSpace, charge: SinkMemory.Charge) throws {
        self.table = table
        self.space = space
        self.charge = charge
        let spec = table.spec
        keepsOrigin = table.keepsOrigin
        batch = try RowBatch(
            columns: table.batchColumns(),
            settings: RowBatchSettings(
                table: table.name,
                topic: spec.topic,
                unknownFields: spec.unknownFields,
                key: spec.key,
                keepsOrigin: table.keepsOrigin
            )
        )
        let number = space.nextGeneration()
        rows = "keyed\(number)"
        latest = "\(Lake.freshDatabase).main.latest\(number)"
        rejects = "unkeyed\(number)"
    }

    deinit {
        space.drop(["\(Lake.freshDatabase).main.\(rows)", latest, "\(Lake.freshDatabase).main.\(rejects)"])
    }

    /// Reads records at and behind the offsets of `from`, and writes them to memory.
    func fill(_ fetched: [Fetched], from: [Int32: Int64]) async throws -> KeyedRound {
        try await space.threads.run { try self.fillNow(fetched, from) }
    }

    private func fillNow(_ fetched: [Fetched], _ from: [Int32: Int64]) throws -> KeyedRound {
        batch.removeAll()
        var offsets: [Int32: Int64] = [:]
        for item in fetched {
            let start = max(item.from, from[item.partition] ?? item.from)
            guard item.next > start else { continue }
            try batch.append(
                item.bytes,
                from: start,
                partition: item.partition,
                decompression: item.decompression
            )
            offsets[item.partition] = max(item.next, offsets[item.partition] ?? .min)
        }
        // The values are in DuckDB's tables as well until the next round.
        charge.set(batch.memoryBytes + 2 * batch.byteCount)
        let (spec, known) = table.with { ($0.resource.spec, $0.columns) }
        let columns = batch.columns
        let extra = table.ruleField(spec, known).map { KeyedTable.folded($0.name) }
        let counts = try space.withConnection { connection in
            let counts = batch.rowCount > 0 ? try write(columns, spec, connection) : (deletes: 0, upserts: 0)
            if batch.rejectCount > 0 { try writeRejects(connection) }
            return counts
        }
        let places = places(columns)
        // Those there are keep their order; system columns are not the batch's.
        let types = Dictionary(
            columns.map { (KeyedTable.folded($0.name), $0) },
            uniquingKeysWith: { first, _ in first }
        )
        let kept = known.map { types[KeyedTable.folded($0.name)] ?? $0 }
        let names = Set(kept.map { KeyedTable.folded($0.name) })
        let added = columns.filter {
            let name = KeyedTable.folded($0.name)
            return name != extra && !names.contains(name)
        }
        return KeyedRound(
            latest: latest,
            rejectsTable: "\(Lake.freshDatabase).main.\(rejects)",
            columns: kept + added,
            places: places,
            deletes: counts.deletes,
            upserts: counts.upserts,
            rejects: batch.rejectCount,
            offsets: offsets
        )
    }

    /// Writes the rows, and keeps of each key the last one taken: of one partition that is the newest.
    private func write(
        _ columns: [AppendTableSchemaVersion.Column],
        _ spec: TableSpec,
        _ connection: Connection
    ) throws -> (deletes: Int64, upserts: Int64) {
        let all = "\(Lake.freshDatabase).main.\(rows)"
        let origin = keepsOrigin ? SystemColumns.keyed.map { ", \(SQLText.identifier($0.name)) \($0.type)" } : []
        let list = (origin + columns.indices.map { ", c\($0) \(columns[$0].type)" }).joined()
        let places = places(columns)
        try connection.execute("CREATE OR REPLACE TABLE \(all) (deletes BOOLEAN\(list))")
        try connection.transaction {
            let appender = try VectorAppender(connection: connection, catalog: Lake.freshDatabase, table: rows)
            try batch.writeKeyed(to: appender)
            try appender.flush()
        }
        var deletes = "coalesce(deletes, false)"
        if let rule = spec.deleteRule, let place = places[KeyedTable.folded(rule.field)] {
            deletes += " OR coalesce(CAST(\(place) AS VARCHAR) = \(SQLText.literal(rule.value)), false)"
        }
        let key = spec.key.compactMap { places[KeyedTable.folded($0)] }.joined(separator: ", ")
        try connection.execute(
            """
            CREATE OR REPLACE TABLE \(latest) AS SELECT * REPLACE (\(deletes) AS deletes) FROM \(all) \
            WHERE rowid IN (SELECT max(rowid) FROM \(all) GROUP BY \(key))
            """
        )
        let counts = try connection.query(
            "SELECT count(*) FILTER (deletes), count(*) FILTER (NOT deletes) FROM \(latest)"
        )
        .rows()
        guard case .int(let gone)? = counts.first?.first, case .int(let kept)? = counts.first?.last else {
            return (0, 0)
        }
        return (gone, kept)
    }

    private func writeRejects(_ connection: Connection) throws {
        let all = "\(Lake.freshDatabase).main.\(rejects)"
        try connection.execute("CREATE OR REPLACE TABLE \(all) \(SystemColumns.sql(SystemColumns.rejects))")
        try connection.transaction {
            let appender = try VectorAppender(connection: connection, catalog: Lake.freshDatabase, table: rejects)
            try batch.writeRejects(to: appender, rejectedAt: Timestamp.nowMicroseconds())
            try appender.flush()
        }
    }

    /// What the columns are called in ``rows``, by their name in lower case.
    private func places(_ columns: [AppendTableSchemaVersion.Column]) -> [[UInt8]: String] {
        var places: [[UInt8]: String] = [:]
        if keepsOrigin {
            for column in SystemColumns.keyed { places[Array(column.name.utf8)] = SQLText.identifier(column.name) }
        }
        for (index, column) in columns.enumerated() { places[KeyedTable.folded(column.name)] = "c\(index)" }
        return places
    }
}
