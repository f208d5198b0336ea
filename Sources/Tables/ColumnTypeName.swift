// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Documents
import MartletCore

/// A type that a column of a table can be declared with.
package enum ColumnTypeName: Sendable, Hashable {
    case boolean
    case bigint
    case hugeint
    case double
    /// 1...38 digits, of which `scale` stand behind the point.
    case decimal(width: Int, scale: Int)
    case varchar
    case json
    case date
    case timestamp

    /// What messages offer.
    package static let list = "BOOLEAN, BIGINT, HUGEINT, DOUBLE, DECIMAL(w,s), VARCHAR, JSON, DATE, TIMESTAMP"

    private static let plain: [String: ColumnTypeName] = [
        "BOOLEAN": .boolean, "BOOL": .boolean, "LOGICAL": .boolean,
        "BIGINT": .bigint, "INT": .bigint, "INTEGER": .bigint, "LONG": .bigint, "SMALLINT": .bigint, "TINYINT": .bigint,
        "INT64": .bigint, "INT32": .bigint, "INT8": .bigint, "INT4": .bigint,
        "HUGEINT": .hugeint, "INT128": .hugeint,
        "DOUBLE": .double, "FLOAT": .double, "REAL": .double, "FLOAT8": .double, "FLOAT64": .double,
        "DOUBLE PRECISION": .double,
        "VARCHAR": .varchar, "TEXT": .varchar, "STRING": .varchar, "CHAR": .varchar,
        "JSON": .json, "DATE": .date, "TIMESTAMP": .timestamp, "DATETIME": .timestamp,
    ]

    /// Reads a type as people write it, in any case and with the usual other names; nil where it is none of ours.
    package init?(_ text: String) {
        let name = text.uppercased().split(whereSeparator: \.isWhitespace).joined(separator: " ")
        if let known = Self.plain[name] {
            self = known
            return
        }
        let parts = name.split(separator: "(", maxSplits: 1)
        guard parts.count == 2, parts[1].hasSuffix(")") else { return nil }
        let numbers = parts[1].dropLast().split(separator: ",", omittingEmptySubsequences: false)
            .map { Int($0.filter { $0 != " " }) }
        let noun = parts[0].filter { $0 != " " }
        switch noun {
        case "DECIMAL", "NUMERIC":
            guard (1...2).contains(numbers.count), let width = numbers[0], (1...38).contains(width),
                let scale = numbers.count == 2 ? numbers[1] : 0, (0...width).contains(scale)
            else { return nil }
            self = .decimal(width: width, scale: scale)
        case "VARCHAR", "CHAR":
            guard numbers.count == 1, numbers[0] != nil else { return nil }
            self = .varchar
        default: return nil
        }
    }

    /// As DuckDB writes it.
    package var sql: String {
        switch self {
        case .boolean: "BOOLEAN"
        case .bigint: "BIGINT"
        case .hugeint: "HUGEINT"
        case .double: "DOUBLE"
        case .decimal(let width, let scale): "DECIMAL(\(width),\(scale))"
        case .varchar: "VARCHAR"
        case .json: "JSON"
        case .date: "DATE"
        case .timestamp: "TIMESTAMP"
        }
    }

    /// Whether a column of this type may become one of `other` without its rows being lost; the same type counts.
    package func canWiden(to other: ColumnTypeName) -> Bool {
        switch (self, other) {
        case _ where self == other: true
        case (_, .varchar), (_, .json): true
        case (.bigint, .double), (.bigint, .hugeint), (.date, .timestamp): true
        case (.bigint, .decimal(let width, let scale)): width - scale >= 19
        case (.decimal(let width, let scale), .decimal(let newWidth, let newScale)):
            newScale >= scale && newWidth - newScale >= width - scale
        default: false
        }
    }

    /// Whether rows can lie in one folder for each value.
    var canPartition: Bool {
        switch self {
        case .boolean, .bigint, .hugeint, .varchar, .date: true
        case .double, .decimal, .json, .timestamp: false
        }
    }

    /// What somebody who wrote `text` probably meant, as advice.
    static func advice(_ text: String) -> String {
        let upper = text.uppercased()
        if upper.hasPrefix("DECIMAL") || upper.hasPrefix("NUMERIC") {
            return "write DECIMAL(w,s) with w from 1 to 38 digits, s of them behind the point, such as DECIMAL(18,2)"
        }
        if upper.hasPrefix("TIMESTAMP") { return "write TIMESTAMP; times are kept in UTC" }
        if upper.hasPrefix("STRUCT") || upper.hasPrefix("MAP") || upper.hasPrefix("LIST") || upper.hasSuffix("[]") {
            return "write JSON; SQL reads into it with ->"
        }
        if let near = NearestName.of(text, among: plain.keys.sorted()), let type = plain[near] {
            return "write \(type.sql)"
        }
        return "write one of \(list)"
    }
}
