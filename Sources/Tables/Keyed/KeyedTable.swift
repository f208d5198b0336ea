// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import MartletCore
import Synchronization

/// A table of this engine that follows a topic and keeps one row a key, in DuckDB's own file.
final class KeyedTable: Sendable {
    struct State {
        var resource: Resource<TableSpec>
        /// The columns as they are in DuckDB; the declared ones before the table was first opened.
        var columns: [AppendTableSchemaVersion.Column]
        /// The offset to take next, by partition, as DuckDB has it.
        var offsets: [Int32: Int64] = [:]
        /// What the table's consumer group shows.
        var notedOffsets: [Int32: Int64] = [:]
        var status = TableStatus()
        /// Whether ``columns`` and ``offsets`` were read from DuckDB.
        var isLoaded = false
    }

    /// Held while the table is changed or ended by somebody: one sink at a time.
    let administration = TaskGate()
    let name: String
    let guid: String
    private let state: Mutex<State>

    init(_ resource: Resource<TableSpec>) {
        name = resource.name
        guid = resource.guid
        state = Mutex(State(resource: resource, columns: TableColumns.merged([], declared: resource.spec.columns)))
    }

    var spec: TableSpec { state.withLock { $0.resource.spec } }
    var rejectsName: String { name + TableRegistry.rejectsSuffix }

    /// What its names are in DuckDB: that of the rows and that of the rejects.
    var storedNames: [String] { [name, rejectsName] }

    func with<R: Sendable>(_ body: (inout State) throws -> R) rethrows -> R {
        try state.withLock { try body(&$0) }
    }

    /// Whether rows say which record they came from: for a declared column, or for the rule that deletes rows.
    var keepsOrigin: Bool {
        let spec = spec
        return (spec.columns.map(\.name) + [spec.deleteRule?.field].compactMap(\.self))
            .contains { SystemColumns.isReserved(Self.folded($0)) }
    }

    /// Where the topic's field that deletes rows stands in the columns a batch begins with.
    func batchColumns() -> [AppendTableSchemaVersion.Column] {
        let (spec, all) = with { ($0.resource.spec, $0.columns) }
        let columns = all.filter { !SystemColumns.isReserved(Self.folded($0.name)) }
        guard let field = ruleField(spec, columns) else { return columns }
        return columns + [field]
    }

    /// The field of the delete rule where it is no column: it is read all the same, and not kept.
    func ruleField(
        _ spec: TableSpec,
        _ columns: [AppendTableSchemaVersion.Column]
    ) -> AppendTableSchemaVersion.Column? {
        guard let rule = spec.deleteRule else { return nil }
        let wanted = Self.folded(rule.field)
        guard !SystemColumns.isReserved(wanted), !columns.contains(where: { Self.folded($0.name) == wanted }) else {
            return nil
        }
        return .init(name: rule.field, type: "VARCHAR", isDeclared: true)
    }

    static func folded(_ name: String) -> [UInt8] { RowFiller.folded(Array(name.utf8)) }
}
