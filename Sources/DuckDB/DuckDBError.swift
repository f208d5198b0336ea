// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// A fault reported by DuckDB or met on the way to it.
package struct DuckDBError: Error, Sendable, CustomStringConvertible {
    /// What kind of fault it is.
    package enum Code: String, Sendable, Hashable, CaseIterable {
        case libraryNotFound
        case libraryUnusable
        case cannotOpen
        case locked
        case damaged
        case syntax
        case catalog
        case binding
        case constraint
        case conversion
        case conflict
        case interrupted
        case outOfMemory
        case io
        case permission
        case unsupportedType
        case closed
        case invalidInput
        case fatal
        case other
    }

    /// What kind of fault it is.
    package let code: Code
    /// What happened, in words for the user.
    package let message: String

    /// Makes an error.
    package init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// Makes an error from the library's error number and text.
    init(type: Int32, message: String) {
        self.init(Self.code(of: type), message)
    }

    /// The message.
    package var description: String { message }

    /// Maps `duckdb_error_type` (C API reference, "Error types").
    private static func code(of type: Int32) -> Code {
        switch type {
        case 2, 1, 3, 4, 5: .conversion
        case 10: .conflict
        case 13, 37: .catalog
        case 14, 22: .syntax
        case 18: .constraint
        case 24, 35, 36: .binding
        case 28: .io
        case 29: .interrupted
        case 30, 31: .fatal
        case 32, 42: .invalidInput
        case 33: .outOfMemory
        case 34: .permission
        case 43, 7: .damaged
        case 38, 39, 40: .permission
        default: .other
        }
    }
}
