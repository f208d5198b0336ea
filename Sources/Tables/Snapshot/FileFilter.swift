// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import DuckDB

/// Tells from a file's bounds whether it can hold rows that pass some comparisons.
struct FileFilter: Sendable {
    let comparisons: [QueryPredicates.Comparison]

    /// Whether a file can matter; `type` gives a column's SQL type as the file has it, or nil where that is not the type of now.
    func allows(_ file: AppendTableFile, type: (String) -> String?) -> Bool {
        comparisons.allSatisfy { comparison in
            guard let type = type(comparison.column), let bounds = file.bounds[comparison.column],
                let low = Self.compare(bounds.min, comparison.value, type),
                let high = Self.compare(bounds.max, comparison.value, type)
            else { return true }
            return switch comparison.operator {
            case .equal: low <= 0 && high >= 0
            case .less: low < 0
            case .lessOrEqual: low <= 0
            case .greater: high > 0
            case .greaterOrEqual: high >= 0
            }
        }
    }

    /// The sign of `bound - value`, or nil where they cannot be compared.
    private static func compare(_ bound: String, _ value: QueryPredicates.Constant, _ type: String) -> Int? {
        switch (type, value) {
        case ("VARCHAR", .text(let wanted)):
            // DuckDB orders VARCHAR by its bytes.
            if bound == wanted { return 0 }
            return bound.utf8.lexicographicallyPrecedes(wanted.utf8) ? -1 : 1
        case ("TIMESTAMP", .timestamp(let wanted)): return CalendarText.parseTimestamp(bound).map { sign($0, wanted) }
        case ("TIMESTAMP", .text(let wanted)):
            guard let wanted = CalendarText.parseTimestamp(wanted) else { return nil }
            return CalendarText.parseTimestamp(bound).map { sign($0, wanted) }
        case ("DATE", .text(let wanted)):
            guard let wanted = CalendarText.parseDate(wanted) else { return nil }
            return CalendarText.parseDate(bound).map { sign($0, wanted) }
        case ("BIGINT", .integer(let wanted)), ("INTEGER", .integer(let wanted)):
            return Int64(bound).map { sign($0, wanted) }
        case ("BIGINT", .double(let wanted)), ("INTEGER", .double(let wanted)), ("DOUBLE", .double(let wanted)):
            return Double(bound).map { sign($0, wanted) }
        case ("DOUBLE", .integer(let wanted)): return Double(bound).map { sign($0, Double(wanted)) }
        default: return nil
        }
    }

    private static func sign<Value: Comparable>(_ left: Value, _ right: Value) -> Int {
        left < right ? -1 : left > right ? 1 : 0
    }
}
