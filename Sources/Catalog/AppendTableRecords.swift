// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore

/// One version of an append table's columns.
package struct AppendTableSchemaVersion: Sendable, Equatable {
    /// One column.
    package struct Column: Codable, Sendable, Equatable {
        package var name: String
        /// SQL type as DuckDB writes it.
        package var type: String
        /// Whether it was declared; inferred columns may widen.
        package var isDeclared: Bool
        /// Whether an integer beyond ±2^53 was seen, so that the column cannot become a DOUBLE without loss.
        package var hasLargeIntegers: Bool

        package init(name: String, type: String, isDeclared: Bool = false, hasLargeIntegers: Bool = false) {
            self.name = name
            self.type = type
            self.isDeclared = isDeclared
            self.hasLargeIntegers = hasLargeIntegers
        }
    }

    /// Counts from 1.
    package var version: Int
    /// The columns from the records' values, in order; system columns are not among them.
    package var columns: [Column]

    package init(version: Int, columns: [Column]) {
        self.version = version
        self.columns = columns
    }
}

/// One Parquet file of an append table.
package struct AppendTableFile: Sendable, Equatable {
    /// What a file holds.
    package enum Part: Int, Sendable, CaseIterable {
        case rows = 0
        case rejects = 1
    }

    /// The smallest and largest value of a column in a file; nil where all are NULL or the type has no order worth keeping.
    package struct Bounds: Codable, Sendable, Equatable {
        /// As text that DuckDB reads as a literal of the column's type.
        package var min: String
        package var max: String

        package init(min: String, max: String) {
            self.min = min
            self.max = max
        }
    }

    /// Given by the catalog; 0 before.
    package var id: Int64
    package var part: Part
    /// Below the table's folder.
    package var path: String
    package var schemaVersion: Int
    package var rows: Int64
    package var bytes: Int64
    /// CRC-32C of the bytes; nil where it was written before files had one.
    package var checksum: UInt32?
    /// By column name.
    package var bounds: [String: Bounds]
    package var addedIn: Int64
    package var removedIn: Int64?

    package init(
        id: Int64 = 0,
        part: Part,
        path: String,
        schemaVersion: Int,
        rows: Int64,
        bytes: Int64,
        checksum: UInt32? = nil,
        bounds: [String: Bounds],
        addedIn: Int64 = 0,
        removedIn: Int64? = nil
    ) {
        self.id = id
        self.part = part
        self.path = path
        self.schemaVersion = schemaVersion
        self.rows = rows
        self.bytes = bytes
        self.checksum = checksum
        self.bounds = bounds
        self.addedIn = addedIn
        self.removedIn = removedIn
    }
}

/// Everything the catalog knows of an append table's content.
package struct AppendTableState: Sendable, Equatable {
    /// All versions in order; empty before the first.
    package var schemas: [AppendTableSchemaVersion]
    /// The files of the last commit.
    package var files: [AppendTableFile]
    /// The offset to take next, by partition; absent before the first commit that took from it.
    package var offsets: [Int32: Int64]
    /// 0 before the first.
    package var lastCommit: Int64

    package init(
        schemas: [AppendTableSchemaVersion] = [],
        files: [AppendTableFile] = [],
        offsets: [Int32: Int64] = [:],
        lastCommit: Int64 = 0
    ) {
        self.schemas = schemas
        self.files = files
        self.offsets = offsets
        self.lastCommit = lastCommit
    }
}

/// A change of an append table to be committed.
package struct AppendTableChange: Sendable {
    package var kind: TableCommit.Kind
    /// A new schema version, where the columns changed.
    package var schema: AppendTableSchemaVersion?
    package var filesAdded: [AppendTableFile]
    /// Ids of files that are no longer part of the table.
    package var filesRemoved: [Int64]
    /// Where `from` is not what the catalog says comes next, the commit is refused: the records were taken before.
    package var ranges: [TableCommit.OffsetRange]
    package var rowsAdded: Int64
    package var rowsRemoved: Int64
    package var rowsRejected: Int64

    package init(
        kind: TableCommit.Kind,
        schema: AppendTableSchemaVersion? = nil,
        filesAdded: [AppendTableFile] = [],
        filesRemoved: [Int64] = [],
        ranges: [TableCommit.OffsetRange] = [],
        rowsAdded: Int64 = 0,
        rowsRemoved: Int64 = 0,
        rowsRejected: Int64 = 0
    ) {
        self.kind = kind
        self.schema = schema
        self.filesAdded = filesAdded
        self.filesRemoved = filesRemoved
        self.ranges = ranges
        self.rowsAdded = rowsAdded
        self.rowsRemoved = rowsRemoved
        self.rowsRejected = rowsRejected
    }
}
