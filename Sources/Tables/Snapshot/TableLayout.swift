// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import DuckDB
import MartletCore

/// What never changes about an append table: its format, how its files are partitioned, and where they lie.
struct TableLayout: Sendable {
    /// A partition column that is made from the record's timestamp.
    struct TimePartition: Sendable, Equatable {
        /// Name of the column and of the folders.
        let column: String
        /// Its value, from the system columns.
        let expression: String
    }

    let folder: TableFolder
    let format: TableSpec.Format
    /// Names of partition columns, outermost first.
    let partitionColumns: [String]
    let timePartitions: [TimePartition]
    /// Options of `COPY` for the files, each with a comma before it.
    let writeOptions: String
    /// Rows of a group in the files; nil is DuckDB's own number.
    let groupRows: Int?
    /// Types of declared partition columns.
    private let partitionTypes: [(name: String, type: String)]

    init(folder: TableFolder, spec: TableSpec) {
        self.folder = folder
        format = spec.format
        var names: [String] = []
        var times: [TimePartition] = []
        var types: [(name: String, type: String)] = []
        for key in spec.partitionBy {
            if let pattern = Self.patterns[key] {
                let column = "record_\(key)"
                names.append(column)
                times.append(TimePartition(column: column, expression: "strftime(_timestamp, '\(pattern)')"))
                types.append((column, "VARCHAR"))
            } else if let declared = spec.columns.first(where: { $0.name == key }) {
                names.append(declared.name)
                types.append((declared.name, declared.type))
            }
        }
        partitionColumns = names
        timePartitions = times
        partitionTypes = types
        writeOptions = spec.sortBy.isEmpty ? "" : Self.lookUpOptions
        groupRows = spec.sortBy.isEmpty ? nil : Self.lookUpGroupRows
    }

    /// Tables whose rows are ordered are those in which few values are looked up.
    ///
    /// Small groups of rows leave little to read around a value, and a column whose values come twice or more often in a group gets a
    /// dictionary, with which DuckDB writes a Bloom filter. For columns without repeats both would only cost room.
    private static let lookUpOptions = ", DICTIONARY_SIZE_LIMIT 12288"
    private static let lookUpGroupRows = 20_480

    private static let patterns = ["day": "%Y-%m-%d", "hour": "%Y-%m-%dT%H"]

    var systemColumns: [SystemColumns.Definition] { format == .json ? SystemColumns.json : SystemColumns.raw }

    /// The expression that reads files of one schema version.
    func read(_ files: [AppendTableFile], _ part: AppendTableFile.Part) -> String {
        let list = files.map { SQLText.literal(folder.absolute($0.path)) }.joined(separator: ",")
        guard part == .rows, !partitionTypes.isEmpty else {
            return "read_parquet([\(list)], hive_partitioning = false)"
        }
        let types = partitionTypes.map { "\(SQLText.literal($0.name)): \($0.type)" }.joined(separator: ", ")
        return "read_parquet([\(list)], hive_partitioning = true, hive_types = {\(types)})"
    }
}
