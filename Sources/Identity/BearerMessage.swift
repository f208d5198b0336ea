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
        let parts = text.fields("\u{1}")
        guard parts.count >= 3, parts.suffix(2) == ["", ""] else { throw SaslFailure("the message does not end") }
        let header = parts[0].fields(",")
        guard header.count == 3, header[0] == "n" || header[0] == "y", header[2].isEmpty,
            let name = header[1].isEmpty ? "" : header[1].rest(after: "a=")
        else { throw SaslFailure("the message has no GS2 header") }
        let values = parts.dropFirst().compactMap { $0.rest(after: "auth=") }
        guard values.count == 1, let value = values.first?.utf8, value.count >= 7,
            String(decoding: value.prefix(7), as: UTF8.self).lowercased() == "bearer "
        else {
            throw SaslFailure("the message has no bearer token")
        }
        token = String(decoding: value.dropFirst(7).drop { $0 == UInt8(ascii: " ") }, as: UTF8.self)
        guard !token.isEmpty else { throw SaslFailure("the bearer token is empty") }
        authorization = name
    }
}

// Messages of logins are bytes with marks between them. Characters are no measure for that: what joins the character in front of it,
// as U+200D does, would make a mark part of another character.
extension String {
    /// The parts between marks.
    func fields(_ mark: Unicode.Scalar, splitsMax: Int = .max) -> [String] {
        unicodeScalars.split(separator: mark, maxSplits: splitsMax, omittingEmptySubsequences: false).map { String($0) }
    }

    /// What follows on a prefix; nil where it begins otherwise.
    func rest(after prefix: String) -> String? {
        utf8.starts(with: prefix.utf8) ? String(decoding: utf8.dropFirst(prefix.utf8.count), as: UTF8.self) : nil
    }
}
