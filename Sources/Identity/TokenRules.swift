// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Foundation
package import JWTKit
package import MartletCore

/// What a bearer token must say, and whom it names; the signature is checked elsewhere.
package struct TokenRules: Sendable {
    /// The `iss` it must have; nil takes any.
    package var issuer: String?
    /// What its `aud` must name.
    package var audience: String
    /// A scope it must have; nil takes any.
    package var scope: String?
    /// The claim with the user's name.
    package var principalClaim = "sub"
    /// How far clocks may be apart.
    package var skew: TimeInterval = 30

    /// Sets what it must be for.
    package init(audience: String) {
        self.audience = audience
    }

    /// Checks the claims of a token.
    ///
    /// - Returns: The user's name, and when the token ends.
    package func check(_ claims: TokenClaims, now: Date) throws(SaslFailure) -> (name: String, expiresAt: Date) {
        guard let end = claims.time("exp") else { throw SaslFailure("the token has no end") }
        guard now < end.addingTimeInterval(skew) else { throw SaslFailure("the token has expired") }
        for claim in ["nbf", "iat"] {
            guard let start = claims.values[claim] == nil ? .distantPast : claims.time(claim) else {
                throw SaslFailure("the token's \(claim) is no time")
            }
            guard start <= now.addingTimeInterval(skew) else { throw SaslFailure("the token holds only later") }
        }
        if let issuer, claims.values["iss"]?.stringValue != issuer {
            throw SaslFailure("the token is of another issuer")
        }
        guard claims.texts("aud").contains(audience) else { throw SaslFailure("the token is for another audience") }
        if let scope {
            let scopes = (claims.texts("scope") + claims.texts("scp")).flatMap {
                $0.split(separator: " ").map(String.init)
            }
            guard scopes.contains(scope) else { throw SaslFailure("the token lacks the scope") }
        }
        guard let name = claims.values[principalClaim]?.stringValue,
            (1...KafkaUsers.nameBytesMax).contains(name.utf8.count),
            name.unicodeScalars.allSatisfy({ $0.properties.generalCategory != .control }),
            name != Principal.anonymous.name, name.isInOneForm
        else { throw SaslFailure("the token's \(principalClaim) names nobody") }
        // One that is taken though it has just ended, as the clocks may be apart, counts for as long as they may be.
        return (name, end > now ? end : end.addingTimeInterval(skew))
    }
}

/// What a token says.
package struct TokenClaims: JWTPayload, Equatable {
    let values: [String: JSONValue]

    /// Takes claims as they are.
    package init(_ values: [String: JSONValue]) {
        self.values = values
    }

    package init(from decoder: any Decoder) throws {
        values = try decoder.singleValueContainer().decode([String: JSONValue].self)
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(values)
    }

    /// Nothing: ``TokenRules`` looks at what the token says, with a clock of its own.
    package func verify(using algorithm: some JWTAlgorithm) {}

    func time(_ name: String) -> Date? {
        // Beyond that no calendar goes.
        guard let seconds = values[name]?.doubleValue, seconds.magnitude < 1e12 else { return nil }
        return Date(timeIntervalSince1970: seconds)
    }

    /// A claim that is a string or a list of strings.
    func texts(_ name: String) -> [String] {
        switch values[name] {
        case .string(let text)?: [text]
        case .array(let items)?: items.compactMap(\.stringValue)
        default: []
        }
    }
}
