// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import CDuckDB

/// The type of a result column.
package indirect enum LogicalType: Sendable, Hashable, CustomStringConvertible {
    case boolean, tinyint, smallint, integer, bigint, utinyint, usmallint, uinteger, ubigint, hugeint, uhugeint
    case float, double
    case decimal(width: UInt8, scale: UInt8)
    case varchar, json, blob, uuid
    case date, time, timestamp, timestampSeconds, timestampMilliseconds, timestampNanoseconds, timestampTZ, interval
    case enumeration([String])
    case list(LogicalType)
    case array(LogicalType, size: Int)
    case structure([Field])
    case map(key: LogicalType, value: LogicalType)
    case sqlNull
    /// A type Martlet does not read, by DuckDB's number.
    case other(Int32)

    /// One field of a structure.
    package struct Field: Sendable, Hashable {
        /// The field's name.
        package let name: String
        /// The field's type.
        package let type: LogicalType

        package init(name: String, type: LogicalType) {
            self.name = name
            self.type = type
        }
    }

    /// The type as DuckDB writes it in SQL.
    package var description: String {
        switch self {
        case .boolean: "BOOLEAN"
        case .tinyint: "TINYINT"
        case .smallint: "SMALLINT"
        case .integer: "INTEGER"
        case .bigint: "BIGINT"
        case .utinyint: "UTINYINT"
        case .usmallint: "USMALLINT"
        case .uinteger: "UINTEGER"
        case .ubigint: "UBIGINT"
        case .hugeint: "HUGEINT"
        case .uhugeint: "UHUGEINT"
        case .float: "FLOAT"
        case .double: "DOUBLE"
        case .decimal(let width, let scale): "DECIMAL(\(width),\(scale))"
        case .varchar: "VARCHAR"
        case .json: "JSON"
        case .blob: "BLOB"
        case .uuid: "UUID"
        case .date: "DATE"
        case .time: "TIME"
        case .timestamp: "TIMESTAMP"
        case .timestampSeconds: "TIMESTAMP_S"
        case .timestampMilliseconds: "TIMESTAMP_MS"
        case .timestampNanoseconds: "TIMESTAMP_NS"
        case .timestampTZ: "TIMESTAMP WITH TIME ZONE"
        case .interval: "INTERVAL"
        case .enumeration: "ENUM"
        case .list(let child): "\(child)[]"
        case .array(let child, let size): "\(child)[\(size)]"
        case .structure(let fields):
            "STRUCT(\(fields.map { "\(SQLText.identifier($0.name)) \($0.type)" }.joined(separator: ", ")))"
        case .map(let key, let value): "MAP(\(key), \(value))"
        case .sqlNull: "NULL"
        case .other(let number): "type \(number)"
        }
    }

    /// Reads a type and frees DuckDB's description of it.
    static func consume(_ handle: duckdb_logical_type?, _ api: UnsafePointer<martlet_duckdb_api>) -> LogicalType {
        var handle = handle
        defer { api.pointee.destroy_logical_type(&handle) }
        return read(handle, api)
    }

    private static func read(_ handle: duckdb_logical_type?, _ api: UnsafePointer<martlet_duckdb_api>) -> LogicalType {
        let number = api.pointee.get_type_id(handle)
        if let simple = simpleTypes[number] { return simple }
        switch number {
        case 17: return take(api.pointee.logical_type_get_alias(handle), api)?.uppercased() == "JSON" ? .json : .varchar
        case 19:
            return .decimal(width: api.pointee.decimal_width(handle), scale: api.pointee.decimal_scale(handle))
        case 23:
            let count = api.pointee.enum_dictionary_size(handle)
            return .enumeration(
                (0..<count).map { take(api.pointee.enum_dictionary_value(handle, idx_t($0)), api) ?? "" }
            )
        case 24: return .list(consume(api.pointee.list_type_child_type(handle), api))
        case 25:
            let count = api.pointee.struct_type_child_count(handle)
            return .structure(
                (0..<count).map { index in
                    Field(
                        name: take(api.pointee.struct_type_child_name(handle, index), api) ?? "",
                        type: consume(api.pointee.struct_type_child_type(handle, index), api)
                    )
                }
            )
        case 26:
            return .map(
                key: consume(api.pointee.map_type_key_type(handle), api),
                value: consume(api.pointee.map_type_value_type(handle), api)
            )
        case 33:
            return .array(
                consume(api.pointee.array_type_child_type(handle), api),
                size: Int(api.pointee.array_type_array_size(handle))
            )
        default: return .other(number)
        }
    }

    private static func take(_ text: UnsafeMutablePointer<CChar>?, _ api: UnsafePointer<martlet_duckdb_api>) -> String?
    {
        guard let text else { return nil }
        defer { api.pointee.free(text) }
        return String(cString: text)
    }

    private static let simpleTypes: [Int32: LogicalType] = [
        1: .boolean, 2: .tinyint, 3: .smallint, 4: .integer, 5: .bigint, 6: .utinyint, 7: .usmallint, 8: .uinteger,
        9: .ubigint, 10: .float, 11: .double, 12: .timestamp, 13: .date, 14: .time, 15: .interval, 16: .hugeint,
        18: .blob,
        20: .timestampSeconds, 21: .timestampMilliseconds, 22: .timestampNanoseconds, 27: .uuid, 31: .timestampTZ,
        32: .uhugeint, 36: .sqlNull,
    ]

    /// DuckDB's numbers of the types that need no more than that.
    static let numbers: [LogicalType: Int32] = Dictionary(
        simpleTypes.map { ($0.value, $0.key) } + [(.varchar, 17)]
    ) { first, _ in first }
}

/// Pieces of SQL text.
package enum SQLText {
    /// An identifier in double quotes.
    package static func identifier(_ name: String) -> String {
        "\"" + name.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"") + "\""
    }

    /// A string literal in single quotes.
    package static func literal(_ text: String) -> String {
        "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "''") + "'"
    }
}
