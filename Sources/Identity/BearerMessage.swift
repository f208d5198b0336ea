// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// The first message of an OAUTHBEARER login (RFC 7628).
package struct BearerMessage: Sendable, Equatable {
    /// The token as given.
    package let token: String
    /// Whom the client says it acts as; empty where it says nothing.
    package let authorization: String

    /// Reads `n,[a=name],^Aauth=Bearer token^A…^A^A`.
    package init(_ bytes: [UInt8]) throws(SaslFailure) {
        guard let text = String(validating: bytes, as: UTF8.self) else { throw SaslFailure("the message is no UTF-8") }
        let parts = text.unicodeScalars.split(separator: "\u{1}", omittingEmptySubsequences: false).map { String($0) }
        guard parts.count >= 3, parts.suffix(2) == ["", ""] else { throw SaslFailure("the message does not end") }
        let header = parts[0].split(separator: ",", omittingEmptySubsequences: false)
        guard header.count == 3, header[0] == "n" || header[0] == "y", header[2].isEmpty,
            header[1].isEmpty || header[1].hasPrefix("a=")
        else { throw SaslFailure("the message has no GS2 header") }
        let values = parts.dropFirst().filter { $0.hasPrefix("auth=") }
        guard values.count == 1, let value = values.first?.dropFirst(5), value.prefix(7).lowercased() == "bearer "
        else {
            throw SaslFailure("the message has no bearer token")
        }
        token = String(value.dropFirst(7).drop { $0 == " " })
        guard !token.isEmpty else { throw SaslFailure("the bearer token is empty") }
        authorization = String(header[1].dropFirst(2))
    }
}
