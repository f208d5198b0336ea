// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import DuckDB
import MartletCore
import Synchronization

/// An append table of this engine: what it holds now, for its sink, for queries and for maintenance.
final class AppendTable: Sendable {
    /// What changes with every commit.
    struct State {
        var resource: Resource<TableSpec>
        /// The columns as of the last record taken.
        var columns: [AppendTableSchemaVersion.Column]
        /// The last version in the catalog; 0 before the first.
        var schemaVersion: Int
        var schemas: [Int: [AppendTableSchemaVersion.Column]]
        var files: [Int64: AppendTableFile]
        /// Oldest first; those of a commit under way come before those being filled.
        var fresh: [FreshRows] = []
        var offsets: [Int32: Int64]
        var lastCommit: Int64
        var status = TableStatus()
        /// What is known to be wrong with files, by path.
        var damage: [String: String] = [:]
        /// Files looked at and files to look at, while a repair compares them with the catalog.
        var check: (done: Int, total: Int)?
        fileprivate var snapshot: TableSnapshot?
        fileprivate var lent: [WeakSnapshot] = []
    }

    fileprivate struct WeakSnapshot {
        weak var snapshot: TableSnapshot?
    }

    /// Held while the table is changed, replayed or ended by somebody: one sink at a time.
    let administration = TaskGate()
    let name: String
    let guid: String
    let layout: TableLayout
    private let state: Mutex<State>
    /// Held while a commit is stored and taken over, so that commits are taken over in their order.
    let changes = TaskGate()
    /// Held by compaction, retention, repair and replay, which all take files off the list.
    let maintenance = TaskGate()

    init(_ resource: Resource<TableSpec>, folder: TableFolder, content: AppendTableState) {
        name = resource.name
        guid = resource.guid
        layout = TableLayout(folder: folder, spec: resource.spec)
        let last = content.schemas.last
        state = Mutex(
            State(
                resource: resource,
                // A crash may have come between a change of the declared columns and the commit of them; the next commit has them.
                columns: TableColumns.merged(last?.columns ?? [], declared: resource.spec.columns),
                schemaVersion: last?.version ?? 0,
                schemas: TableColumns.byVersion(content.schemas),
                files: Dictionary(uniqueKeysWithValues: content.files.map { ($0.id, $0) }),
                offsets: content.offsets,
                lastCommit: content.lastCommit
            )
        )
    }

    var resource: Resource<TableSpec> { state.withLock { $0.resource } }
    var spec: TableSpec { state.withLock { $0.resource.spec } }

    var batchSettings: RowBatchSettings {
        let spec = spec
        return RowBatchSettings(
            table: name,
            topic: spec.topic,
            format: spec.format,
            unknownFields: spec.unknownFields
        )
    }

    /// Reads the state, or changes it; what queries see follows.
    func with<R: Sendable>(_ body: (inout State) throws -> R) rethrows -> R {
        try state.withLock { state in
            defer { state.snapshot = nil }
            return try body(&state)
        }
    }

    /// Remembers what is wrong with files, which changes nothing of what queries see; whether any of it is new.
    @discardableResult
    func note(damage: [String: String]) -> Bool {
        state.withLock { state in
            let isNew = damage.contains { state.damage[$0.key] == nil }
            state.damage.merge(damage) { $1 }
            return isNew
        }
    }

    /// Forgets what was wrong with a file.
    func mended(_ path: String) { state.withLock { $0.damage[path] = nil } }

    /// Replaces what is known of damage, after all files were looked at.
    func setDamage(_ damage: [String: String]) { state.withLock { $0.damage = damage } }

    /// Remembers how far a check of the files is; nil when it is over.
    func note(check: (done: Int, total: Int)?) { state.withLock { $0.check = check } }

    /// Reads the state without changing it.
    func read<R: Sendable>(_ body: (borrowing State) throws -> R) rethrows -> R {
        try state.withLock { try body($0) }
    }

    /// What the table holds now.
    func snapshot() -> TableSnapshot {
        state.withLock { state in
            // Columns of fresh rows can have grown since the last snapshot was made.
            if let snapshot = state.snapshot { return snapshot }
            let snapshot = TableSnapshot(
                layout: layout,
                columns: state.columns,
                schemas: state.schemas,
                files: state.files.values.sorted { $0.id < $1.id },
                fresh: state.fresh,
                commit: state.lastCommit
            )
            state.snapshot = snapshot
            state.lent.removeAll { $0.snapshot == nil }
            state.lent.append(WeakSnapshot(snapshot: snapshot))
            return snapshot
        }
    }

    /// Lends a snapshot that was made otherwise, so that its files are kept while it is read.
    func lend(_ snapshot: TableSnapshot) {
        state.withLock { $0.lent.append(WeakSnapshot(snapshot: snapshot)) }
    }

    /// The oldest commit somebody still reads.
    func oldestRead() -> Int64 {
        state.withLock { state in
            state.lent.removeAll { $0.snapshot == nil }
            return state.lent.compactMap { $0.snapshot?.commit }.min() ?? state.lastCommit
        }
    }

    /// Takes over a commit: its files are there, those it removed and the rows it wrote are not.
    func apply(
        _ commit: TableCommit,
        added: [AppendTableFile],
        removed: [Int64] = [],
        schema: AppendTableSchemaVersion? = nil,
        written: [FreshRows] = []
    ) {
        let left = read { state in removed.compactMap { state.files[$0]?.path } }
        with { state in
            for file in added { state.files[file.id] = file }
            for id in removed { state.files[id] = nil }
            for path in left { state.damage[path] = nil }
            if let schema {
                state.schemas[schema.version] = schema.columns
                state.schemaVersion = schema.version
            }
            state.fresh.removeAll { rows in written.contains { $0 === rows } }
            for range in commit.ranges { state.offsets[range.partition] = range.to }
            state.lastCommit = commit.number
        }
        layout.folder.publish(added: added.map(\.path), removed: left)
    }
}

/// How a table's sink is doing.
struct TableStatus: Sendable, Equatable {
    enum Phase: String, Sendable {
        case starting, running, failing, paused
    }

    var phase = Phase.starting
    /// Why it is failing, and what to do.
    var reason: String?
    /// Records of the topic not taken yet, and the milliseconds since the oldest of them was written.
    var lagRecords: Int64 = 0
    var lagMilliseconds: Int64 = 0
}
