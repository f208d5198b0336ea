// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Foundation

/// A table as people see it: what it is, what it holds and how it fares.
package struct TableDescription: Sendable, Codable, Equatable {
    /// How rows are kept.
    package enum Kind: String, Sendable, Codable, CaseIterable {
        /// One row a key, in DuckDB's own file; written by functions, or from a topic.
        case keyed
        /// One row a record of a topic, in Parquet files.
        case append
    }

    /// Whether a table follows its topic.
    package enum State: String, Sendable, Codable, CaseIterable {
        case running
        /// Waits for something that will come by itself; the reason says for what.
        case paused
        /// Takes nothing until somebody acts; the reason says what happened.
        case failed
        /// Takes records, but a file it has cannot be read as it was written; the reason says which and what to do.
        case damaged
    }

    /// One column.
    package struct Column: Sendable, Codable, Equatable {
        package var name: String
        /// SQL type as DuckDB writes it.
        package var type: String
        package var isKey: Bool
        /// Whether the engine fills it from the record and not from its value.
        package var isSystem: Bool

        package init(name: String, type: String, isKey: Bool, isSystem: Bool = false) {
            self.name = name
            self.type = type
            self.isKey = isKey
            self.isSystem = isSystem
        }
    }

    /// What can be set of a table that follows a topic, but for what the description has beside it.
    package struct Settings: Sendable, Codable, Equatable {
        /// Declared columns; inferred ones are only among the table's.
        package var columns: [TableSpec.Column]
        package var unknownFields: TableSpec.UnknownFields
        package var deleteRule: TableSpec.DeleteRule?
        package var commitSeconds: Int
        package var commitBytes: Int64
        /// nil keeps rows for ever.
        package var retentionMilliseconds: Int64?
        /// nil is no limit.
        package var retentionBytes: Int64?
        package var historySeconds: Int64
        package var start: TableSpec.Start

        package init(_ spec: TableSpec) {
            columns = spec.columns
            unknownFields = spec.unknownFields
            deleteRule = spec.deleteRule
            commitSeconds = spec.commitSeconds
            commitBytes = spec.commitBytes
            retentionMilliseconds = spec.retentionMilliseconds
            retentionBytes = spec.retentionBytes
            historySeconds = spec.historySeconds
            start = spec.start
        }
    }

    package var name: String
    package var kind: Kind
    /// System columns first, then those of the records, in order.
    package var columns: [Column]
    /// Names of the key columns, in order; empty for an append table.
    package var key: [String]
    /// Rows a query counts, those not committed yet among them.
    package var rows: Int64

    // What only tables that follow a topic have; nil for the others.

    package var guid: String?
    package var description: String?
    package var tags: [String]?
    package var topic: String?
    package var format: TableSpec.Format?
    /// As in ``TableSpec/partitionBy``; empty for a keyed table.
    package var partitionBy: [String]?
    /// Whether it is one of the engine's own, `system.<name>` in SQL.
    package var isInternal: Bool?
    /// Folder of the Parquet files, absolute; nil for a keyed table.
    package var location: String?
    /// Parquet files of the last commit, rejects not counted; nil for a keyed table.
    package var files: Int?
    /// Of those files, or of DuckDB's file for a keyed table where it is known.
    package var bytes: Int64?
    /// Number of the last commit; 0 before the first, nil for a keyed table.
    package var commits: Int64?
    package var lastCommit: TableCommit?
    /// Version of the columns; 0 before the first.
    package var schemaVersion: Int?
    /// Rows that wait for the next commit; SQL sees them already.
    package var freshRows: Int64?
    /// Rows of `<name>__rejected`, those not committed yet among them.
    package var rejectedRows: Int64?
    /// Records of the topic that are not rows yet, over all partitions.
    package var lagRecords: Int64?
    /// Age of the oldest of those records; 0 where there is none.
    package var lagSeconds: Double?
    package var state: State?
    /// Why it does not run, and what to do; nil while it runs.
    package var reason: String?
    package var settings: Settings?
    package var createdAt: Date?
    package var updatedAt: Date?

    /// Makes the description of a table that follows no topic; the rest is set where there is one.
    package init(name: String, kind: Kind = .keyed, columns: [Column], rows: Int64) {
        self.name = name
        self.kind = kind
        self.columns = columns
        self.rows = rows
        key = columns.filter(\.isKey).map(\.name)
    }

    /// Makes the description of a table that follows a topic from its resource; what it holds and how it fares is set afterwards.
    package init(_ table: Resource<TableSpec>, columns: [Column], rows: Int64) {
        self.init(name: table.name, kind: table.spec.key.isEmpty ? .append : .keyed, columns: columns, rows: rows)
        key = table.spec.key
        guid = table.guid
        description = table.metadata.description
        tags = table.metadata.tags
        topic = table.spec.topic
        format = table.spec.format
        partitionBy = table.spec.key.isEmpty ? table.spec.partitionBy : []
        isInternal = table.spec.isInternal
        settings = Settings(table.spec)
        createdAt = table.metadata.createdAt
        updatedAt = table.metadata.updatedAt
    }
}

/// What a compaction did.
package struct TableCompaction: Sendable, Codable, Equatable {
    package var filesBefore: Int
    package var filesAfter: Int
    package var bytesBefore: Int64
    package var bytesAfter: Int64
    /// Rows in the files that were written anew.
    package var rows: Int64
    /// nil where no files were small enough to merge.
    package var commit: TableCommit?

    package init(
        filesBefore: Int,
        filesAfter: Int,
        bytesBefore: Int64,
        bytesAfter: Int64,
        rows: Int64,
        commit: TableCommit?
    ) {
        self.filesBefore = filesBefore
        self.filesAfter = filesAfter
        self.bytesBefore = bytesBefore
        self.bytesAfter = bytesAfter
        self.rows = rows
        self.commit = commit
    }
}

/// One thing that a repair found wrong with a table.
package struct TableFinding: Sendable, Codable, Equatable {
    /// What is wrong.
    package enum Kind: String, Sendable, Codable, CaseIterable {
        /// The catalog lists a file that is not there.
        case missingFile = "missing_file"
        /// A file is not the Parquet file the catalog lists: unreadable, or of other size or rows.
        case damagedFile = "damaged_file"
        /// A file is there that the catalog does not list.
        case orphanFile = "orphan_file"
        /// The topic no longer has the record the table would take next, or never had it.
        case offset
    }

    package var kind: Kind
    /// Of the file, below the table's folder; for `offset` the topic and partition as `topic/0`.
    package var path: String
    /// What is wrong in words: sizes, rows, offsets.
    package var problem: String
    /// What would be done or was done, for example "take it off the list; 1,200 rows are lost".
    package var action: String
    /// Rows that are lost by it; 0 where none are.
    package var rowsLost: Int64
    /// Whether the action was taken; always false in a dry run.
    package var isDone: Bool
    /// Why the action could not be taken; nil where it was, or was not tried.
    package var failure: String?

    package init(kind: Kind, path: String, problem: String, action: String, rowsLost: Int64 = 0, isDone: Bool = false) {
        self.kind = kind
        self.path = path
        self.problem = problem
        self.action = action
        self.rowsLost = rowsLost
        self.isDone = isDone
    }
}

/// What came of reading rejects again.
package struct TableReplay: Sendable, Codable, Equatable {
    /// Records that are rows now.
    package var replayed: Int64
    /// Records that still do not fit.
    package var stillRejected: Int64
    /// nil where no record became a row.
    package var commit: TableCommit?

    package init(replayed: Int64, stillRejected: Int64, commit: TableCommit?) {
        self.replayed = replayed
        self.stillRejected = stillRejected
        self.commit = commit
    }
}
