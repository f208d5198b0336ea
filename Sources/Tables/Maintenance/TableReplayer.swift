// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import DuckDB
import KafkaCodec
import MartletCore

/// Reads a table's rejects again under the columns and settings of now; its sink must stand still.
struct TableReplayer: Sendable {
    let table: AppendTable
    let services: SinkServices

    /// Turns rejects that fit into rows, in one commit with those that still do not, which get the reason they have now.
    func run() async throws -> TableReplay {
        try await table.maintenance.pass {
            let files = table.read { $0.files.values.filter { $0.part == .rejects } }
            guard !files.isEmpty else { return TableReplay(replayed: 0, stillRejected: 0, commit: nil) }
            let (before, version) = table.read { ($0.columns, $0.schemaVersion) }
            let source = TableSnapshot(
                layout: table.layout,
                columns: [],
                schemas: [:],
                files: files.sorted { $0.id < $1.id },
                fresh: [],
                commit: 0
            )
            let space = services.space
            let database = try await space.database()
            let rows = FreshRows(columns: before, space: space)
            let (batch, added) = try await space.maintenance.run { [table] in
                let connection = try database.connect()
                let batch = try Self.read(source, before, table.batchSettings, connection)
                rows.set(columns: batch.columns)
                try rows.create(table.layout.format, on: connection)
                try connection.transaction { try rows.append([batch], on: connection) }
                rows.added(rows: batch.rowCount, rejects: batch.rejectCount, bytes: 1, memory: batch.byteCount)
                let unread = try Self.count("(\(source.query(.rejects))) WHERE \(Self.isUnreadable)", connection)
                let result = (rows: batch.rowCount, rejects: batch.rejectCount + unread)
                // Nothing would be other than before: no commit is needed to say so.
                guard try batch.rowCount > 0 || Self.hasOtherReasons(rows, source, connection) else {
                    return (result, [AppendTableFile]())
                }
                let isKnown = batch.columns == table.read { $0.schemas[version] }
                return (result, try write(rows, source, isKnown ? version : version + 1, connection))
            }
            guard !added.isEmpty else {
                return TableReplay(replayed: 0, stillRejected: Int64(batch.rejects), commit: nil)
            }
            let isNew = rows.columns != table.read { $0.schemas[version] }
            let commit = try await TableMaintenance(table: table, services: services).store(
                AppendTableChange(
                    kind: .replay,
                    schema: isNew ? AppendTableSchemaVersion(version: version + 1, columns: rows.columns) : nil,
                    filesAdded: added,
                    filesRemoved: files.map(\.id),
                    rowsAdded: Int64(batch.rows),
                    rowsRejected: Int64(batch.rejects)
                )
            )
            table.with { $0.columns = rows.columns }
            return TableReplay(replayed: Int64(batch.rows), stillRejected: Int64(batch.rejects), commit: commit)
        }
    }

    /// Reads the rejects as the records they were.
    private static func read(
        _ source: TableSnapshot,
        _ columns: [AppendTableSchemaVersion.Column],
        _ settings: RowBatchSettings,
        _ connection: Connection
    ) throws -> RowBatch {
        let batch = try RowBatch(columns: columns, settings: settings)
        let result = try connection.query(
            """
            SELECT _partition, _offset, epoch_ms(_timestamp), key, value,
                list_transform(headers, lambda h: h.key), list_transform(headers, lambda h: hex(h.value))
            FROM (\(source.query(.rejects))) WHERE NOT \(isUnreadable) ORDER BY _partition, _offset
            """
        )
        while let chunk = try result.nextChunk() {
            let values = try chunk.allValues()
            for row in 0..<chunk.rowCount {
                guard case .int(let partition) = values[0][row], case .int(let offset) = values[1][row] else {
                    continue
                }
                let record = record(values.map { $0[row] })
                let bytes = RecordBatchEncoder.encode([record], baseOffset: offset)
                try batch.append(bytes, from: offset, partition: Int32(truncatingIfNeeded: partition))
            }
        }
        return batch
    }

    /// A reject without a value is no record that could be read again: it stands for a part of a batch that could not be read, or for
    /// a record that has none.
    private static let isUnreadable = "(value IS NULL)"

    private static func count(_ source: String, _ connection: Connection) throws -> Int {
        guard case .int(let count)? = try connection.query("SELECT count(*) FROM \(source)").rows().first?.first else {
            return 0
        }
        return Int(count)
    }

    /// Whether a record that does not fit has another reason than before.
    private static func hasOtherReasons(
        _ rows: FreshRows,
        _ source: TableSnapshot,
        _ connection: Connection
    ) throws -> Bool {
        let changed =
            "(\(source.query(.rejects))) AS old JOIN \(rows.rejectsTable) AS now USING (_partition, _offset) "
            + "WHERE old.reason IS DISTINCT FROM now.reason"
        return try count(changed, connection) > 0
    }

    private static func record(_ values: [DuckDBValue]) -> Record {
        var record = Record(timestamp: 0, key: bytes(values[3]), value: bytes(values[4]))
        if case .int(let time) = values[2] { record.timestamp = time }
        if case .json(let names) = values[5], case .json(let texts) = values[6],
            let keys = (try? JSONValue(parsing: names))?.arrayValue,
            let headers = (try? JSONValue(parsing: texts))?.arrayValue
        {
            record.headers = zip(keys, headers).map { key, value in
                RecordHeader(key: key.stringValue ?? "", value: value.stringValue.map(Self.hexadecimal))
            }
        }
        return record
    }

    private static func bytes(_ value: DuckDBValue) -> [UInt8]? {
        guard case .blob(let bytes) = value else { return nil }
        return bytes
    }

    private static func hexadecimal(_ text: String) -> [UInt8] {
        let digits = Array(text.utf8)
        return stride(from: 0, to: digits.count - 1, by: 2).map { index in
            func value(_ digit: UInt8) -> UInt8 { digit <= 0x39 ? digit &- 0x30 : (digit | 0x20) &- 0x57 }
            return value(digits[index]) << 4 | value(digits[index + 1])
        }
    }

    private func write(
        _ rows: FreshRows,
        _ source: TableSnapshot,
        _ version: Int,
        _ connection: Connection
    ) throws -> [AppendTableFile] {
        let snapshot = TableSnapshot(
            layout: table.layout,
            columns: rows.columns,
            schemas: [:],
            files: [],
            fresh: [rows],
            commit: 0
        )
        let writer = ParquetWriter(layout: table.layout)
        var files: [AppendTableFile] = []
        if rows.rowCount > 0 {
            files += try writer.write(snapshot.query(.rows), .rows, schemaVersion: version, on: connection)
        }
        let rejects =
            "SELECT * FROM (\(snapshot.query(.rejects))) "
            + "UNION ALL SELECT * FROM (\(source.query(.rejects))) WHERE \(Self.isUnreadable)"
        if try Self.count("(\(rejects))", connection) > 0 {
            files += try writer.write(rejects, .rejects, schemaVersion: version, on: connection)
        }
        return files
    }
}
