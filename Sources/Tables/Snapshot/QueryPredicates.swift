// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore

/// What a query asks of the columns of the tables it names, as far as that decides which files can matter.
///
/// Only comparisons with constants that every wanted row must pass are kept: leaving one out reads more files, never other rows.
package struct QueryPredicates: Sendable, Equatable {
    /// A comparison of a column with a constant.
    package struct Comparison: Sendable, Equatable {
        /// What is compared how.
        package enum Operator: String, Sendable {
            case equal = "COMPARE_EQUAL"
            case less = "COMPARE_LESSTHAN"
            case lessOrEqual = "COMPARE_LESSTHANOREQUALTO"
            case greater = "COMPARE_GREATERTHAN"
            case greaterOrEqual = "COMPARE_GREATERTHANOREQUALTO"

            /// The same comparison with its sides exchanged.
            var mirrored: Operator {
                switch self {
                case .equal: .equal
                case .less: .greater
                case .lessOrEqual: .greaterOrEqual
                case .greater: .less
                case .greaterOrEqual: .lessOrEqual
                }
            }
        }

        let column: String
        let `operator`: Operator
        let value: Constant

        /// Makes a comparison of a column, by its name as SQL writes it.
        package init(_ column: String, _ operator: Operator, _ value: Constant) {
            self.column = column
            self.operator = `operator`
            self.value = value
        }
    }

    /// A constant in a form in which a file's bounds can be compared with it.
    package enum Constant: Sendable, Equatable {
        case integer(Int64)
        case double(Double)
        case text(String)
        /// Microseconds since 1970.
        case timestamp(Int64)
    }

    /// By table, as ``TableRegistry/key(_:)`` gives it.
    var comparisons: [String: [Comparison]] = [:]

    /// Makes predicates of tables by their names.
    package init(_ comparisons: [String: [Comparison]] = [:]) {
        for (name, list) in comparisons { self.comparisons[TableRegistry.key(name)] = list }
    }

    /// What the files of a table must pass.
    func filter(for table: String) -> FileFilter { FileFilter(comparisons: comparisons[table] ?? []) }
}
