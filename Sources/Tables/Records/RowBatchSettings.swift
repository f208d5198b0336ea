// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore

/// What a ``RowBatch`` needs to know of its table.
package struct RowBatchSettings: Sendable, Equatable {
    /// The table's name, for reasons.
    package var table: String
    /// The topic, for rejects.
    package var topic: String
    /// What a record's value is read as.
    package var format: TableSpec.Format
    /// What happens to a field that is no column.
    package var unknownFields: TableSpec.UnknownFields
    /// The most columns a table may have, system columns not counted.
    package var columnsMax: Int
    /// Names of the key columns, all of them among the columns the batch begins with; empty for an append table.
    package var key: [String]
    /// Whether rows of a keyed table say which record they came from.
    package var keepsOrigin: Bool

    package init(
        table: String,
        topic: String,
        format: TableSpec.Format = .json,
        unknownFields: TableSpec.UnknownFields = .add,
        columnsMax: Int = 1000,
        key: [String] = [],
        keepsOrigin: Bool = false
    ) {
        self.table = table
        self.topic = topic
        self.format = format
        self.unknownFields = unknownFields
        self.columnsMax = columnsMax
        self.key = key
        self.keepsOrigin = keepsOrigin
    }
}

/// Columns that rows cannot be read into.
package struct RowBatchError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What is wrong.
    package var message: String

    package var description: String { message }
}
