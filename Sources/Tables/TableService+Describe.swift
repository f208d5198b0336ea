// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import EventLog
import KafkaCodec
import MartletCore

extension TableService {
    /// What a table is, as its resource says; nothing of what it holds.
    func describe(_ resource: Resource<TableSpec>) -> TableDescription {
        let columns = TableColumns.merged([], declared: resource.spec.columns)
        return TableDescription(resource, columns: Self.columns(resource.spec, columns), rows: 0)
    }

    /// What a table is, holds and how it fares.
    func describe(_ table: AppendTable) async throws -> TableDescription {
        let (resource, columns, files, fresh, schemaVersion) = table.read { state in
            (state.resource, state.columns, Array(state.files.values), state.fresh, state.schemaVersion)
        }
        let (status, offsets, number) = table.read { ($0.status, $0.offsets, $0.lastCommit) }
        let rows = files.filter { $0.part == .rows }
        let rejects = files.filter { $0.part == .rejects }
        let freshRows = fresh.reduce(0) { $0 + $1.rowCount }
        var described = TableDescription(
            resource,
            columns: Self.columns(resource.spec, columns),
            rows: rows.reduce(0) { $0 + $1.rows } + freshRows
        )
        described.location = table.layout.folder.root
        described.files = rows.count
        described.bytes = rows.reduce(0) { $0 + $1.bytes }
        described.commits = number
        described.lastCommit = try await runtime.services.catalog.appendTables
            .history(table.guid, limit: 1, cursor: nil).items.first
        described.schemaVersion = schemaVersion
        described.freshRows = freshRows
        described.rejectedRows = rejects.reduce(0) { $0 + $1.rows } + fresh.reduce(0) { $0 + $1.rejectCount }
        let taken = runtime.sink(of: table)?.taken ?? offsets
        (described.lagRecords, described.lagSeconds) = try await lag(resource.spec.topic, taken)
        switch status.phase {
        case .running: described.state = .running
        case .starting, .paused: described.state = .paused
        case .failing: described.state = .failed
        }
        described.reason = status.reason ?? (status.phase == .starting ? "it is being started" : nil)
        Self.note(table, files, &described)
        return described
    }

    /// Adds what is known to be wrong with the files, and that they are being looked at.
    private static func note(_ table: AppendTable, _ files: [AppendTableFile], _ described: inout TableDescription) {
        let (known, check) = table.read { ($0.damage, $0.check) }
        let damaged = files.filter { known[$0.path] != nil }.sorted { $0.id < $1.id }
        if let first = damaged.first, let problem = known[first.path] {
            let others = damaged.count > 1 ? " (and \(damaged.count - 1) more)" : ""
            let text =
                "\(first.path)\(others) is damaged: \(problem); queries that read it fail or are wrong until "
                + "martlet tables repair \(table.name)"
            if described.state != .failed { described.state = .damaged }
            described.reason = [described.reason, text].compactMap(\.self).joined(separator: "; ")
        }
        guard let check else { return }
        let text = "its files are being compared with the catalog: \(check.done) of \(check.total)"
        described.reason = [described.reason, text].compactMap(\.self).joined(separator: "; ")
    }

    static func columns(
        _ spec: TableSpec,
        _ columns: [AppendTableSchemaVersion.Column]
    ) -> [TableDescription.Column] {
        guard spec.key.isEmpty else {
            let key = Set(spec.key.map { KeyedTable.folded($0) })
            return columns.map {
                let name = KeyedTable.folded($0.name)
                return TableDescription.Column(
                    name: $0.name,
                    type: $0.type,
                    isKey: key.contains(name),
                    isSystem: SystemColumns.isReserved(name)
                )
            }
        }
        let system = spec.format == .json ? SystemColumns.json : SystemColumns.raw
        var all = system.map { TableDescription.Column(name: $0.name, type: $0.type, isKey: false, isSystem: true) }
        all += columns.map { TableDescription.Column(name: $0.name, type: $0.type, isKey: false) }
        for key in spec.partitionBy where key == "day" || key == "hour" {
            all.append(.init(name: "record_\(key)", type: "VARCHAR", isKey: false, isSystem: true))
        }
        return all
    }

    /// How many records a table has not taken, and how old the oldest of them is.
    func lag(_ topic: String, _ taken: [Int32: Int64]) async throws -> (records: Int64, seconds: Double) {
        let log = runtime.services.log
        guard let description = try await log.topic(topic) else { return (0, 0) }
        var records: Int64 = 0
        var oldest: Int64?
        for number in 0..<description.partitions {
            let partition = TopicPartition(topic: topic, partition: number)
            let bounds = try log.bounds(partition)
            let next = max(taken[number] ?? bounds.start, bounds.start)
            // Records of open transactions are nobody's yet.
            guard bounds.stable > next else { continue }
            records += bounds.stable - next
            let first = try await log.read(partition, from: next, bytesMax: 1)
            if let time = Self.timestamp(of: next, in: first.bytes) { oldest = min(oldest ?? .max, time) }
        }
        return (records, oldest.map { Timestamp.age(milliseconds: $0) } ?? 0)
    }

    private static func timestamp(of offset: Int64, in bytes: [UInt8]) -> Int64? {
        var walk = RecordBatches(bytes, verifiesChecksums: false)
        // What cannot be read has no age; the sink reports it.
        return (try? walk.nextBatch())?.header.maxTimestamp
    }
}
