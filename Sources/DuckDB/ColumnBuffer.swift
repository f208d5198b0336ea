// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// The type of a column that is written.
package enum ColumnType: Sendable, Hashable, CustomStringConvertible {
    case boolean, bigint, hugeint, double, varchar, json, blob, date, timestamp
    case decimal(width: UInt8, scale: UInt8)

    /// The type as DuckDB writes it in SQL.
    package var description: String {
        switch self {
        case .boolean: "BOOLEAN"
        case .bigint: "BIGINT"
        case .hugeint: "HUGEINT"
        case .double: "DOUBLE"
        case .varchar: "VARCHAR"
        case .json: "JSON"
        case .blob: "BLOB"
        case .date: "DATE"
        case .timestamp: "TIMESTAMP"
        case .decimal(let width, let scale): "DECIMAL(\(width),\(scale))"
        }
    }
}

/// The values of one column to be written, in memory as DuckDB wants them.
package struct ColumnBuffer: Sendable {
    /// The values, one for each row; what stands for a NULL is not looked at.
    package enum Storage: Sendable {
        case booleans([Bool])
        /// BIGINT, TIMESTAMP (microseconds) and DATE (days).
        case integers([Int64])
        /// HUGEINT and the unscaled value of DECIMAL.
        case wide([Int128])
        case doubles([Double])
        /// VARCHAR, JSON and BLOB: row `i` is `bytes[ends[i - 1]..<ends[i]]`.
        case bytes([UInt8], ends: [Int])
    }

    /// The column's type, which decides what the storage means.
    package let type: ColumnType
    /// The values.
    package private(set) var storage: Storage
    /// Which rows are not NULL; nil when all are.
    package private(set) var validity: [Bool]?
    /// How many rows there are.
    package private(set) var count = 0

    /// Makes an empty column.
    package init(_ type: ColumnType) {
        self.type = type
        storage =
            switch type {
            case .boolean: .booleans([])
            case .bigint, .date, .timestamp: .integers([])
            case .hugeint, .decimal: .wide([])
            case .double: .doubles([])
            case .varchar, .json, .blob: .bytes([], ends: [])
            }
    }

    /// Appends a NULL.
    package mutating func appendNull() {
        if validity == nil { validity = [Bool](repeating: true, count: count) }
        switch storage {
        case .booleans(var values):
            storage = .booleans([])
            values.append(false)
            storage = .booleans(values)
        case .integers(var values):
            storage = .booleans([])
            values.append(0)
            storage = .integers(values)
        case .wide(var values):
            storage = .booleans([])
            values.append(0)
            storage = .wide(values)
        case .doubles(var values):
            storage = .booleans([])
            values.append(0)
            storage = .doubles(values)
        case .bytes(let bytes, var ends):
            storage = .booleans([])
            ends.append(bytes.count)
            storage = .bytes(bytes, ends: ends)
        }
        validity?.append(false)
        count += 1
    }

    /// Appends a boolean to a BOOLEAN column.
    package mutating func append(_ value: Bool) {
        guard case .booleans(var values) = storage else { mismatch("a boolean") }
        storage = .booleans([])
        values.append(value)
        storage = .booleans(values)
        didAppend()
    }

    /// Appends a BIGINT, the days of a DATE or the microseconds of a TIMESTAMP.
    package mutating func append(_ value: Int64) {
        guard case .integers(var values) = storage else { mismatch("an integer") }
        storage = .booleans([])
        values.append(value)
        storage = .integers(values)
        didAppend()
    }

    /// Appends a HUGEINT or the unscaled value of a DECIMAL.
    package mutating func append(wide value: Int128) {
        guard case .wide(var values) = storage else { mismatch("a wide integer") }
        storage = .booleans([])
        values.append(value)
        storage = .wide(values)
        didAppend()
    }

    /// Appends a DOUBLE.
    package mutating func append(_ value: Double) {
        guard case .doubles(var values) = storage else { mismatch("a double") }
        storage = .booleans([])
        values.append(value)
        storage = .doubles(values)
        didAppend()
    }

    /// Appends a VARCHAR or JSON text.
    package mutating func append(_ value: String) {
        appendBytes { $0.append(contentsOf: value.utf8) }
    }

    /// Appends the bytes of a BLOB, or of a VARCHAR or JSON text in valid UTF-8.
    package mutating func append(bytes value: some Sequence<UInt8>) {
        appendBytes { $0.append(contentsOf: value) }
    }

    /// Appends the bytes that `body` puts at the end of the buffer; nothing when it throws.
    package mutating func appendBytes(_ body: (inout [UInt8]) throws -> Void) rethrows {
        guard case .bytes(var bytes, var ends) = storage else { mismatch("bytes") }
        storage = .booleans([])
        let start = bytes.count
        do {
            try body(&bytes)
        } catch {
            bytes.removeSubrange(start...)
            storage = .bytes(bytes, ends: ends)
            throw error
        }
        ends.append(bytes.count)
        storage = .bytes(bytes, ends: ends)
        didAppend()
    }

    /// Whether a row is NULL.
    package func isNull(_ row: Int) -> Bool {
        validity.map { !$0[row] } ?? false
    }

    private mutating func didAppend() {
        validity?.append(true)
        count += 1
    }

    private func mismatch(_ value: String) -> Never {
        preconditionFailure("ColumnBuffer: \(value) was appended to a \(type) column")
    }
}
