// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import DuckDB
import MartletCore

/// What an append table holds at one moment; whoever has it can read it, whatever is committed meanwhile.
final class TableSnapshot: Sendable {
    let layout: TableLayout
    /// The columns from the records' values, as of now.
    let columns: [AppendTableSchemaVersion.Column]
    /// All versions that files were written with, by number.
    let schemas: [Int: [AppendTableSchemaVersion.Column]]
    let files: [AppendTableFile]
    let fresh: [FreshRows]
    /// The commit the files are of.
    let commit: Int64

    init(
        layout: TableLayout,
        columns: [AppendTableSchemaVersion.Column],
        schemas: [Int: [AppendTableSchemaVersion.Column]],
        files: [AppendTableFile],
        fresh: [FreshRows],
        commit: Int64
    ) {
        self.layout = layout
        self.columns = columns
        self.schemas = schemas
        self.files = files
        self.fresh = fresh
        self.commit = commit
    }

    /// The same without the rows that are in no file.
    func filesOnly() -> TableSnapshot {
        TableSnapshot(layout: layout, columns: columns, schemas: schemas, files: files, fresh: [], commit: commit)
    }

    /// The query that gives all rows, or all rejects; files whose bounds do not pass `filter` are left out.
    func query(_ part: AppendTableFile.Part, _ filter: FileFilter = FileFilter(comparisons: [])) -> String {
        var parts: [String] = []
        var versions: [Int: [AppendTableFile]] = [:]
        let types = part == .rows && !filter.comparisons.isEmpty ? commonTypes() : [:]
        for file in files where file.part == part {
            guard types.isEmpty || filter.allows(file, type: { types[file.schemaVersion]?[$0] }) else { continue }
            versions[part == .rows ? file.schemaVersion : 0, default: []].append(file)
        }
        for (version, members) in versions.sorted(by: { $0.key < $1.key }) {
            let source = layout.read(members, part)
            parts.append(select(part, from: source, having: schemas[version] ?? [], isFile: true))
        }
        for rows in fresh where rows.batch == nil {
            let source = part == .rows ? rows.rowsTable : rows.rejectsTable
            parts.append(select(part, from: source, having: rows.columns, isFile: false))
        }
        for group in sealedGroups(part) {
            let source = FreshSources.expression(group.map(\.number), part)
            parts.append(select(part, from: source, having: group.last?.columns ?? [], isFile: false))
        }
        if parts.isEmpty { parts.append(empty(part)) }
        return parts.joined(separator: " UNION ALL ")
    }

    /// Batches that can be read as one, because the columns of each are the first ones of the next: each source of a statement has buffers of
    /// its own for every column.
    private func sealedGroups(_ part: AppendTableFile.Part) -> [[FreshRows]] {
        var groups: [[FreshRows]] = []
        for rows in fresh {
            guard let batch = rows.batch, (part == .rows ? batch.rowCount : batch.rejectCount) > 0 else { continue }
            if let last = groups.last?.last, part == .rejects || Self.begins(rows.columns, with: last.columns) {
                groups[groups.count - 1].append(rows)
            } else {
                groups.append([rows])
            }
        }
        return groups
    }

    private static func begins(
        _ columns: [AppendTableSchemaVersion.Column],
        with first: [AppendTableSchemaVersion.Column]
    ) -> Bool {
        columns.count >= first.count && zip(columns, first).allSatisfy { $0.name == $1.name && $0.type == $1.type }
    }

    /// The types of the columns that each version has as they are now.
    private func commonTypes() -> [Int: [String: String]] {
        let system =
            layout.systemColumns.map { ($0.name, $0.type) } + layout.timePartitions.map { ($0.column, "VARCHAR") }
        let now = Dictionary(columns.map { ($0.name, $0.type) }) { first, _ in first }
        return schemas.mapValues { version in
            let same = version.filter { now[$0.name] == $0.type }.map { ($0.name, $0.type) }
            return Dictionary(system + same) { first, _ in first }
        }
    }

    /// Selects the columns of now from a source that has those of another version.
    private func select(
        _ part: AppendTableFile.Part,
        from source: String,
        having present: [AppendTableSchemaVersion.Column],
        isFile: Bool
    ) -> String {
        guard part == .rows else {
            return "SELECT \(Self.list(SystemColumns.rejects)) FROM \(source)"
        }
        let types = Dictionary(present.map { ($0.name, $0.type) }) { first, _ in first }
        var terms = layout.systemColumns.map { SQLText.identifier($0.name) }
        for column in columns {
            let name = SQLText.identifier(column.name)
            switch types[column.name] {
            case column.type: terms.append(name)
            case nil: terms.append("NULL::\(column.type) AS \(name)")
            // A cast would read the text as JSON, which "Bern" is not.
            case .some(let old) where column.type == "JSON" && Self.texts.contains(old):
                terms.append("to_json(\(name)) AS \(name)")
            case .some: terms.append("\(name)::\(column.type) AS \(name)")
            }
        }
        for partition in layout.timePartitions {
            let name = SQLText.identifier(partition.column)
            terms.append(isFile ? name : "\(partition.expression) AS \(name)")
        }
        return "SELECT \(terms.joined(separator: ", ")) FROM \(source)"
    }

    /// Types whose values are strings in JSON.
    private static let texts: Set<String> = ["VARCHAR", "DATE", "TIMESTAMP"]

    private func empty(_ part: AppendTableFile.Part) -> String {
        guard part == .rows else {
            let terms = SystemColumns.rejects.map { "NULL::\($0.type) AS \(SQLText.identifier($0.name))" }
            return "SELECT \(terms.joined(separator: ", ")) WHERE false"
        }
        var terms = layout.systemColumns.map { "NULL::\($0.type) AS \(SQLText.identifier($0.name))" }
        terms += columns.map { "NULL::\($0.type) AS \(SQLText.identifier($0.name))" }
        terms += layout.timePartitions.map { "NULL::VARCHAR AS \(SQLText.identifier($0.column))" }
        return "SELECT \(terms.joined(separator: ", ")) WHERE false"
    }

    private static func list(_ columns: [SystemColumns.Definition]) -> String {
        columns.map { SQLText.identifier($0.name) }.joined(separator: ", ")
    }
}
