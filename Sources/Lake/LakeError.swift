// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import DuckDB

/// Why a table request was refused or failed, and where.
package struct LakeError: Error, Sendable, CustomStringConvertible {
    /// What kind of fault it is.
    package enum Code: String, Sendable, Hashable, CaseIterable {
        /// The text of a transaction is not what the worker protocol defines.
        case malformedTransaction
        case tooLarge
        case invalidName
        /// A value's type does not fit its column, not even after widening.
        case typeConflict
        case keyMismatch
        /// A key has a NULL or a NaN.
        case invalidKey
        case unknownTable
        case unknownColumn
        /// A query wants to change something and may not.
        case readOnly
        /// A kind of statement nobody may run here.
        case notAllowed
        /// The name belongs to an append table or to the engine.
        case reserved
        /// Only its topic says what the table's rows are.
        case followsTopic
        /// The SQL text is wrong: syntax, unknown names, types.
        case invalidSQL
        /// A query needs more memory and space on disk than it may have.
        case outOfMemory
        case timeout
        case cancelled
        case busy
        case closed
        case damaged
        case unavailable
        case `internal`
    }

    /// What kind of fault it is.
    package let code: Code
    /// What happened, in words for the user, with the place.
    package let message: String
    /// Index of the transaction's operation at fault.
    package var operation: Int?
    /// The table at fault.
    package var table: String?
    /// The column at fault.
    package var column: String?
    /// Index of the operation's row at fault.
    package var row: Int?
    /// What to do, where the code alone does not say it.
    package var fix: String?

    /// Makes an error; its description names the place before the message.
    package init(
        _ code: Code,
        _ message: String,
        operation: Int? = nil,
        table: String? = nil,
        column: String? = nil,
        row: Int? = nil
    ) {
        self.code = code
        self.message = message
        self.operation = operation
        self.table = table
        self.column = column
        self.row = row
    }

    /// Makes an error of one from DuckDB.
    package init(_ error: DuckDBError) {
        let code: Code =
            switch error.code {
            case .syntax, .catalog, .binding, .conversion, .constraint, .invalidInput, .unsupportedType: .invalidSQL
            // Whether a statement may write is found out before DuckDB sees it: this is about files, extensions and settings.
            case .permission: .notAllowed
            case .interrupted: .cancelled
            case .damaged: .damaged
            case .conflict, .outOfMemory: .busy
            case .libraryNotFound, .libraryUnusable, .cannotOpen, .locked, .io: .unavailable
            case .closed: .closed
            case .fatal: .unavailable
            case .other: .internal
            }
        let advice =
            switch error.code {
            case .fatal:
                " The tables cannot be used until the engine is restarted; what was acknowledged is kept. Look for a full or failing disk."
            case .io: ". If that is a file of an append table, run: martlet tables repair NAME --dry-run"
            default: ""
            }
        self.init(code, error.message + advice)
    }

    /// The place, then the message.
    package var description: String {
        var place: [String] = []
        if let operation { place.append("operations[\(operation)]") }
        if let table { place.append("table \(table)") }
        if let column { place.append("column \(column)") }
        if let row { place.append("row \(row)") }
        return place.isEmpty ? message : "\(place.joined(separator: ", ")): \(message)"
    }
}
