// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import MartletCore

/// What a query asks of the columns of the tables it names, as far as that decides which files can matter.
///
/// Only comparisons with constants that every wanted row must pass are kept: leaving one out reads more files, never other rows.
struct QueryPredicates: Sendable {
    /// A comparison of a column with a constant.
    struct Comparison: Sendable, Equatable {
        enum Operator: Sendable { case equal, less, lessOrEqual, greater, greaterOrEqual }

        let column: String
        let `operator`: Operator
        let value: Constant
    }

    /// A constant in a form in which a file's bounds can be compared with it.
    enum Constant: Sendable, Equatable {
        case integer(Int64)
        case double(Double)
        case text(String)
    }

    /// By table, as ``TableRegistry/key(_:)`` gives it; a table that is named twice has none.
    var comparisons: [String: [Comparison]] = [:]

    /// What the files of a table must pass.
    func filter(for table: String) -> FileFilter { FileFilter(comparisons: comparisons[table] ?? []) }
}

/// Tells from a file's bounds whether it can hold rows that pass some comparisons.
struct FileFilter: Sendable {
    let comparisons: [QueryPredicates.Comparison]

    func allows(_ file: AppendTableFile) -> Bool {
        comparisons.allSatisfy { comparison in
            guard let bounds = file.bounds[comparison.column] else { return true }
            guard let low = Self.compare(bounds.min, comparison.value),
                let high = Self.compare(bounds.max, comparison.value)
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
    private static func compare(_ bound: String, _ value: QueryPredicates.Constant) -> Int? {
        switch value {
        case .integer(let wanted):
            if let number = Int64(bound) { return number < wanted ? -1 : number > wanted ? 1 : 0 }
            return Double(bound).flatMap { sign($0, Double(wanted)) }
        case .double(let wanted): return Double(bound).flatMap { sign($0, wanted) }
        case .text(let wanted):
            // DuckDB orders VARCHAR by its bytes.
            if bound == wanted { return 0 }
            return bound.utf8.lexicographicallyPrecedes(wanted.utf8) ? -1 : 1
        }
    }

    private static func sign(_ left: Double, _ right: Double) -> Int? {
        guard !left.isNaN, !right.isNaN else { return nil }
        return left < right ? -1 : left > right ? 1 : 0
    }
}
