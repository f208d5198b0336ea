// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// The one message of a PLAIN login (RFC 4616).
package struct PlainMessage: Sendable, Equatable {
    /// Who logs in.
    package let user: String
    /// The password as given.
    package let password: String

    /// Reads `authzid NUL user NUL password`; the first may be empty or the user's name.
    package init(_ bytes: [UInt8]) throws(SaslFailure) {
        let parts = bytes.split(separator: 0, omittingEmptySubsequences: false)
        guard parts.count == 3 else { throw SaslFailure("the message has \(parts.count) parts instead of 3") }
        let texts = parts.compactMap { String(validating: $0, as: UTF8.self) }
        guard texts.count == 3 else { throw SaslFailure("the message is no UTF-8") }
        guard !texts[1].isEmpty, !texts[2].isEmpty else { throw SaslFailure("the user name or the password is empty") }
        guard texts[0].isEmpty || texts[0] == texts[1] else {
            throw SaslFailure("the client wants to act for somebody else")
        }
        user = texts[1]
        password = texts[2]
    }
}
