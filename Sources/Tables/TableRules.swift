// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import Documents
import MartletCore

/// What of a table's settings goes together, and what of them may change.
struct TableRules {
    static let columnsMax = 1000
    static let partitionsMax = 8

    let reader: DocumentReader
    let fields: TableFields

    /// A spec whose key and partitions are spelled as their columns are.
    static func spelled(_ spec: TableSpec) -> TableSpec {
        var spec = spec
        spec.key = spec.key.map { column($0, of: spec)?.name ?? $0 }
        spec.partitionBy = spec.partitionBy.map {
            ["hour", "day"].contains($0) ? $0 : column($0, of: spec)?.name ?? $0
        }
        return spec
    }

    /// Notes every fault of a whole spec.
    func check(_ spec: TableSpec) {
        checkColumns(spec)
        if spec.format == .raw { checkRaw(spec) }
        checkKey(spec)
        if spec.key.isEmpty { checkPartitions(spec) } else { checkKeyed() }
    }

    private func checkColumns(_ spec: TableSpec) {
        if spec.columns.count > Self.columnsMax {
            reader.fail(
                "columns",
                "\(spec.columns.count) columns are more than a table can have",
                fix: "declare at most \(Self.columnsMax)"
            )
        }
        var seen: [[UInt8]: String] = [:]
        for column in spec.columns {
            let path = path(of: column.name)
            let lower = Self.folded(column.name)
            let shown = column.name.prefix(140)
            if !(1...255).contains(column.name.utf8.count)
                || column.name.unicodeScalars.contains(where: { $0.properties.generalCategory == .control })
            {
                reader.fail(
                    at: path,
                    "'\(shown)' cannot name a column",
                    fix: "use 1 to 255 bytes of characters that can be printed"
                )
            }
            if SystemColumns.isReserved(lower), !spec.key.isEmpty {
                checkOrigin(column, lower, path)
            } else if SystemColumns.isReserved(lower) {
                reader.fail(
                    at: path,
                    "'\(shown)' is a system column: the engine fills it from the record",
                    fix: "leave it out; a field of that name in a record's value sends the record to the rejects"
                )
            }
            if spec.key.isEmpty, SystemColumns.isPartition(lower) {
                reader.fail(
                    at: path,
                    "'\(shown)' is the name of a folder that the table's files are in",
                    fix: "use another name; a field of that name in a record's value sends the record to the rejects"
                )
            }
            if let other = seen.updateValue(column.name, forKey: lower) {
                let how = other == column.name ? "twice" : "twice, also as '\(other.prefix(140))': case does not count"
                reader.fail(at: path, "column '\(shown)' is declared \(how)", fix: "keep one of them")
            }
        }
    }

    /// A system column that a keyed table declares, to keep what the record of a row was.
    private func checkOrigin(_ column: TableSpec.Column, _ folded: [UInt8], _ path: String) {
        guard let type = SystemColumns.declaredType(folded) else {
            let names = SystemColumns.keyed.map(\.name).joined(separator: ", ")
            return reader.fail(
                at: path,
                "a table with a key cannot keep '\(column.name)' of its records",
                fix: "leave it out; it can keep \(names)"
            )
        }
        guard column.type != type else { return }
        reader.fail(
            at: path,
            "'\(column.name)' is a system column, which the engine fills from the record: \(type), not \(column.type)",
            fix: "write {name: \(column.name), type: \(type)}"
        )
    }

    private func checkRaw(_ spec: TableSpec) {
        let fix = "leave it out, or use format json"
        if !spec.columns.isEmpty {
            reader.fail("columns", "a raw table has the columns key, value and headers and no declared ones", fix: fix)
        }
        if fields.given.contains("unknown_fields") {
            reader.fail("unknown_fields", "records of a raw table have no fields", fix: fix)
        }
        if !spec.key.isEmpty { reader.fail("key", "a raw table has no columns of its own to be the key", fix: fix) }
    }

    private func checkKey(_ spec: TableSpec) {
        var seen: Set<[UInt8]> = []
        for name in spec.key {
            guard let column = Self.column(name, of: spec) else {
                guard spec.format == .json else { continue }
                let near = NearestName.of(name, among: spec.columns.map(\.name))
                let columns = spec.columns.map(\.name).joined(separator: ", ")
                let declare = "declare it, for example {name: \(name.prefix(60)), type: VARCHAR}"
                let fix = near.map { "write '\($0)', or \(declare)" } ?? declare
                let known = columns.isEmpty ? "none is declared" : "declared are \(columns.prefix(300))"
                reader.fail("key", "key column '\(name.prefix(140))' is not declared; \(known)", fix: fix)
                continue
            }
            if SystemColumns.isReserved(Self.folded(name)) {
                reader.fail(
                    "key",
                    "'\(column.name)' says which record a row came from, so it names no row",
                    fix: "use a field of the records' values"
                )
            }
            if column.type == "JSON" {
                reader.fail("key", "column '\(column.name)' of type JSON cannot be a key", fix: "declare it as VARCHAR")
            }
            if !seen.insert(Self.folded(name)).inserted {
                reader.fail("key", "'\(name.prefix(140))' is in the key twice", fix: "name it once")
            }
        }
        if spec.deleteRule != nil, spec.key.isEmpty {
            reader.fail(
                "delete_rule",
                "only a table with a key can delete rows",
                fix: "add 'key', or leave the rule out"
            )
        }
    }

    /// Settings of files, which a keyed table has none of.
    private func checkKeyed() {
        let settings = [
            ("partition_by", "lies in DuckDB's own file and has no partitions"),
            ("retention", "keeps one row a key and none of them ages"),
            ("retention_bytes", "keeps one row a key and none of them ages"),
            ("history_seconds", "has the rows of now and no history"),
        ]
        for (name, why) in settings where fields.given.contains(name) {
            if name == "partition_by", fields.partitionBy.map({ TableFields.normal($0).isEmpty }) == true { continue }
            reader.fail(name, "a table with a key \(why)", fix: "leave it out, or leave the key out")
        }
    }

    private func checkPartitions(_ spec: TableSpec) {
        if spec.partitionBy.count > Self.partitionsMax {
            reader.fail(
                "partition_by",
                "\(spec.partitionBy.count) partitions are too many",
                fix: "use at most \(Self.partitionsMax)"
            )
        }
        var seen: Set<[UInt8]> = []
        for name in spec.partitionBy {
            let shown = name.prefix(140)
            if !seen.insert(Self.folded(name)).inserted {
                reader.fail("partition_by", "'\(shown)' is given twice", fix: "name it once")
            }
            let column = Self.column(name, of: spec)
            if name == "hour" || name == "day" {
                guard let column else { continue }
                reader.fail(
                    "partition_by",
                    "'\(name)' is the \(name) of the record's timestamp, and column '\(column.name)' has that name too",
                    fix: "partition by another column, or give the column another name"
                )
                continue
            }
            guard let column else {
                let names = ["hour", "day"] + spec.columns.map(\.name)
                let near = NearestName.of(name, among: names).map { "write '\($0)', or " } ?? ""
                let fix = spec.format == .raw ? "write hour or day" : "\(near)declare the column, or write hour or day"
                reader.fail("partition_by", "'\(shown)' is neither hour, day nor a declared column", fix: fix)
                continue
            }
            if ColumnTypeName(column.type)?.canPartition != true {
                reader.fail(
                    "partition_by",
                    "column '\(column.name)' of type \(column.type) would make a folder for nearly every row",
                    fix: column.type == "TIMESTAMP"
                        ? "write hour or day, or declare the column as DATE"
                        : "use a column of type BOOLEAN, BIGINT, HUGEINT, VARCHAR or DATE with few values"
                )
            }
        }
    }

    // MARK: Changes

    /// Notes what a document wants to be other than it can become.
    func refuseChanges(of old: TableSpec) {
        if let format = fields.format, format != old.format {
            reader.fail(
                "format",
                "the table's rows were read as \(old.format.rawValue), and cannot be read again as \(format.rawValue)",
                fix: "create another table of topic '\(old.topic)' with format \(format.rawValue)"
            )
        }
        if let key = fields.key, key.map(Self.folded) != old.key.map(Self.folded) {
            let now = old.key.isEmpty ? "the table has no key" : "the table's key is \(old.key.joined(separator: ", "))"
            reader.fail(
                "key",
                "\(now), and rows that were written under it cannot change places",
                fix: "create another table of topic '\(old.topic)' with that key"
            )
        }
        if let partitions = fields.partitionBy, TableFields.normal(partitions) != old.partitionBy {
            let now =
                old.partitionBy.isEmpty
                ? "not partitioned" : "partitioned by \(old.partitionBy.joined(separator: ", "))"
            reader.fail(
                "partition_by",
                "the table's files are \(now), and files do not change places",
                fix:
                    "create another table of topic '\(old.topic)' with those partitions; it reads the topic from the start"
            )
        }
        if let start = fields.start, start != old.start {
            reader.fail(
                "start",
                "the table began at the \(old.start.rawValue) record when it was created",
                fix: "create another table of topic '\(old.topic)' with start \(start.rawValue)"
            )
        }
    }

    /// Notes what of an engine's own table is not for people to change: all but when rows are committed and how long they stay.
    func refuseOtherRows(_ spec: TableSpec, than old: TableSpec) {
        let isSame = [
            ("columns", spec.columns == old.columns), ("unknown_fields", spec.unknownFields == old.unknownFields),
            ("delete_rule", spec.deleteRule == old.deleteRule),
        ]
        for (name, isSame) in isSame where !isSame {
            reader.fail(
                name,
                "the engine itself keeps the columns of its own tables",
                fix: "leave it out; retention, history and commits can be changed"
            )
        }
    }

    /// The declared columns after a change: those there are, widened where the document says so, then new ones.
    func merge(
        _ declared: [(column: TableSpec.Column, path: String)],
        into old: TableSpec,
        columns: [AppendTableSchemaVersion.Column]
    ) -> [TableSpec.Column] {
        var merged = old.columns
        var seen: Set<[UInt8]> = []
        for (column, path) in declared {
            let lower = Self.folded(column.name)
            guard seen.insert(lower).inserted else {
                reader.fail(at: path, "column '\(column.name.prefix(140))' is declared twice", fix: "keep one of them")
                continue
            }
            let position = merged.firstIndex { Self.folded($0.name) == lower }
            let now = position.map { merged[$0].type } ?? columns.first { Self.folded($0.name) == lower }?.type
            if let now, now != column.type {
                if old.key.contains(where: { Self.folded($0) == lower }) {
                    reader.fail(
                        at: path,
                        "the type of key column '\(column.name)' cannot change",
                        fix: "leave it \(now)"
                    )
                    continue
                }
                if let from = ColumnTypeName(now), let to = ColumnTypeName(column.type), !from.canWiden(to: to) {
                    reader.fail(at: path, Self.refusal(column.name, now, column.type), fix: Self.widths(from))
                    continue
                }
            }
            if let position { merged[position].type = column.type } else { merged.append(column) }
        }
        return merged
    }

    private static func refusal(_ name: String, _ from: String, _ to: String) -> String {
        "column '\(name.prefix(140))' is \(from), and not every \(from) fits into \(to)"
    }

    private static func widths(_ type: ColumnTypeName) -> String {
        switch type {
        case .bigint: "write HUGEINT, DOUBLE, DECIMAL(w,s) with 19 digits before the point, VARCHAR or JSON"
        case .decimal: "write a DECIMAL with no fewer digits before and behind the point, VARCHAR or JSON"
        case .date: "write TIMESTAMP, VARCHAR or JSON"
        case .varchar: "write JSON; or cast in SQL: SELECT CAST(column AS type)"
        case .json: "write VARCHAR; or cast in SQL: SELECT CAST(column AS type)"
        default: "write VARCHAR or JSON; or cast in SQL: SELECT CAST(column AS type)"
        }
    }

    private static func column(_ name: String, of spec: TableSpec) -> TableSpec.Column? {
        spec.columns.first { folded($0.name) == folded(name) }
    }

    /// A name as DuckDB compares names: only the letters A to Z have another case.
    private static func folded(_ name: String) -> [UInt8] { RowFiller.folded(Array(name.utf8)) }

    private func path(of column: String) -> String {
        fields.columns?.last { $0.column.name == column }?.path ?? "columns"
    }
}
