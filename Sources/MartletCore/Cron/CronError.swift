// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Why a cron expression or its time zone was refused.
package struct CronError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The field at fault, for example `minutes`; `expression` or `time zone` where it is no single field.
    package var field: String
    /// What was written there.
    package var value: String
    /// What is wrong with it.
    package var message: String
    /// What to write instead.
    package var fix: String

    /// Makes an error.
    package init(field: String, value: some StringProtocol, _ message: String, fix: String) {
        self.field = field
        self.value = value.count > 80 ? "\(value.prefix(80))…" : String(value)
        self.message = message
        self.fix = fix
    }

    /// The field, its value and what is wrong, without the fix.
    package var reason: String { "\(field) '\(value)': \(message)" }

    package var description: String { "\(reason); \(fix)" }
}
