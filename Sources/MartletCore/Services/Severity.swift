// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Log severities under all the names in use, ordered.
package enum Severity: Int64, Sendable, CaseIterable {
    case trace = 1
    case debug = 5
    case info = 9
    case warn = 13
    case error = 17
    case fatal = 21

    /// Reads any of the usual names, in any case; nil for others.
    package init?(name: String) {
        switch name.uppercased() {
        case "TRACE", "NOTSET": self = .trace
        case "DEBUG": self = .debug
        case "INFO", "INFORMATION", "NOTICE": self = .info
        case "WARN", "WARNING": self = .warn
        case "ERROR", "ERR": self = .error
        case "FATAL", "CRITICAL": self = .fatal
        default: return nil
        }
    }

    /// The severity of an OpenTelemetry severity number, 1...24.
    package init(number: Int64) {
        self = Self.allCases.last { $0.rawValue <= number } ?? .trace
    }

    /// The name stored and shown.
    package var name: String {
        switch self {
        case .trace: "TRACE"
        case .debug: "DEBUG"
        case .info: "INFO"
        case .warn: "WARN"
        case .error: "ERROR"
        case .fatal: "FATAL"
        }
    }
}
