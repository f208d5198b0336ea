// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// A table that follows a topic.
///
/// Without a key its rows are appended to Parquet files, one row a record; with one they are kept by key in DuckDB.
package struct TableSpec: ResourceSpec, Equatable {
    package static let kind = ResourceKind.tables

    /// What a record's value is read as.
    package enum Format: String, Codable, Sendable, CaseIterable {
        /// An object whose members are columns.
        case json
        /// Bytes: the columns are key, value and headers.
        case raw
    }

    /// What happens to a record with a field that is no column.
    package enum UnknownFields: String, Codable, Sendable, CaseIterable {
        /// The field becomes a column.
        case add
        /// The record goes to the rejects.
        case reject
        /// The field is left out.
        case ignore
    }

    /// The first records a new table takes.
    package enum Start: String, Codable, Sendable, CaseIterable {
        case earliest
        case latest
    }

    /// A column that is declared and not inferred.
    package struct Column: Codable, Sendable, Equatable {
        package var name: String
        /// BOOLEAN, BIGINT, HUGEINT, DOUBLE, DECIMAL(w,s), VARCHAR, JSON, DATE or TIMESTAMP.
        package var type: String

        package init(name: String, type: String) {
            self.name = name
            self.type = type
        }
    }

    /// A record whose field has this text deletes its key instead of writing a row.
    package struct DeleteRule: Codable, Sendable, Equatable {
        package var field: String
        package var value: String

        package init(field: String, value: String) {
            self.field = field
            self.value = value
        }
    }

    package var topic: String
    package var format: Format
    /// Declared columns, in order.
    package var columns: [Column]
    package var unknownFields: UnknownFields
    /// Key columns; empty for an append table.
    package var key: [String]
    /// Only with a key; a record without a value deletes its key in any case.
    package var deleteRule: DeleteRule?
    /// `hour`, `day` (of the record's timestamp, UTC) or names of declared columns, outermost first; empty for no partitions.
    package var partitionBy: [String]
    /// Rows are committed at the latest after this many seconds, 1...86,400.
    package var commitSeconds: Int
    /// Rows are committed earlier when this many bytes of records wait, 64 KiB...1 GiB.
    package var commitBytes: Int64
    /// Rows older than this, by the record's timestamp, are removed; nil keeps them.
    package var retentionMilliseconds: Int64?
    /// The oldest files are removed while the table is larger; nil is no limit.
    package var retentionBytes: Int64?
    /// How long a commit can still be read `AS OF`, in seconds.
    package var historySeconds: Int64
    package var start: Start
    /// Columns by which merged files are ordered, so that a look-up reads little of each; only the engine's own tables have some.
    package var sortBy: [String]
    /// Made by the engine: a table of the schema `system`.
    package var isInternal: Bool
    /// GUID of the pipeline whose deployment made the table; nil where it was made otherwise.
    package var pipelineGuid: String?

    package init(
        topic: String,
        format: Format = .json,
        columns: [Column] = [],
        unknownFields: UnknownFields = .add,
        key: [String] = [],
        deleteRule: DeleteRule? = nil,
        partitionBy: [String] = ["day"],
        commitSeconds: Int = 10,
        commitBytes: Int64 = 64 << 20,
        retentionMilliseconds: Int64? = nil,
        retentionBytes: Int64? = nil,
        historySeconds: Int64 = 86_400,
        start: Start = .earliest,
        sortBy: [String] = [],
        isInternal: Bool = false,
        pipelineGuid: String? = nil
    ) {
        self.topic = topic
        self.format = format
        self.columns = columns
        self.unknownFields = unknownFields
        self.key = key
        self.deleteRule = deleteRule
        self.partitionBy = partitionBy
        self.commitSeconds = commitSeconds
        self.commitBytes = commitBytes
        self.retentionMilliseconds = retentionMilliseconds
        self.retentionBytes = retentionBytes
        self.historySeconds = historySeconds
        self.start = start
        self.sortBy = sortBy
        self.isInternal = isInternal
        self.pipelineGuid = pipelineGuid
    }

    package var references: [ResourceReference] { [ResourceReference(kind: .topics, name: topic)] }
}
