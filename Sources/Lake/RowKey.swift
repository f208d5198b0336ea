// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import DuckDB

/// Encodes values of some columns of a row so that equal rows have equal bytes.
struct RowKey: Hashable {
    private(set) var bytes: [UInt8] = []

    init() {}

    /// The key of one row of columns that already have the table's types.
    init(_ columns: [ColumnBuffer], row: Int) {
        for column in columns { append(column.value(row)) }
    }

    init(_ values: [DuckDBValue]) {
        for value in values { append(value) }
    }

    private mutating func append(_ value: DuckDBValue) {
        switch value {
        case .null: bytes.append(0)
        case .bool(let value): bytes.append(value ? 2 : 1)
        case .int(let value), .timestamp(let value): append(3, value)
        case .date(let value): append(3, Int64(value))
        case .double(let value): append(4, value == 0 ? 0 : value.isNaN ? UInt64.max : value.bitPattern)
        case .hugeint(let value): append(5, value)
        case .decimal(let value): append(5, value.unscaled)
        case .blob(let value): append(value)
        default: append(Array(value.text.utf8))
        }
    }

    private mutating func append(_ tag: UInt8, _ value: some FixedWidthInteger) {
        bytes.append(tag)
        withUnsafeBytes(of: value) { bytes.append(contentsOf: $0) }
    }

    private mutating func append(_ value: [UInt8]) {
        append(6, value.count)
        bytes.append(contentsOf: value)
    }
}
