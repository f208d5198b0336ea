// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Why a login cannot go on; the text is for the log and never holds a secret.
package struct SaslFailure: Error, Equatable, Sendable {
    /// What was wrong.
    package let reason: String

    /// Names what was wrong.
    package init(_ reason: String) {
        self.reason = reason
    }
}
