// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Glibc

/// A system call on a view that failed.
package struct ViewError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What was tried, for example `open`.
    package var operation: String
    /// The path concerned.
    package var path: String
    /// The system's error number.
    package var systemError: Int32

    /// Makes an error.
    package init(_ operation: String, path: String, systemError: Int32) {
        self.operation = operation
        self.path = path
        self.systemError = systemError
    }

    /// The system's words for the error number.
    package var reason: String { Self.text(systemError) }

    package var description: String { "cannot \(operation) '\(path)': \(reason)" }

    /// The system's words for an error number.
    package static func text(_ number: Int32) -> String {
        var buffer = [CChar](repeating: 0, count: 128)
        guard strerror_r(number, &buffer, buffer.count) == 0 else { return "error \(number)" }
        return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
