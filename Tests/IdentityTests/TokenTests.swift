// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Crypto
import Foundation
import Identity
import JWTKit
import Logging
import MartletCore
import Testing

struct TokenTests {
    private static let now = Date(timeIntervalSince1970: 1_800_000_000)

    private static func rules() -> TokenRules {
        var rules = TokenRules(audience: "martlet")
        rules.issuer = "https://issuer.example"
        rules.scope = "kafka"
        return rules
    }

    private static let good: [String: JSONValue] = [
        "sub": "alice", "iss": "https://issuer.example", "aud": "martlet", "scope": "openid kafka",
        "exp": .int(1_800_000_060), "iat": .int(1_799_999_990),
    ]

    @Test func takesAGoodToken() throws {
        let found = try Self.rules().check(TokenClaims(Self.good), now: Self.now)
        #expect(found.name == "alice")
        #expect(found.expiresAt == Date(timeIntervalSince1970: 1_800_000_060))
    }

    @Test func aTokenThatHasJustEndedCountsAsLongAsClocksMayBeApart() throws {
        var claims = Self.good
        claims["exp"] = .int(1_799_999_990)
        let found = try Self.rules().check(TokenClaims(claims), now: Self.now)
        #expect(found.expiresAt == Date(timeIntervalSince1970: 1_800_000_020))
    }

    @Test(arguments: [
        ("aud", JSONValue.array(["other", "martlet"])), ("scope", .array(["kafka"])), ("exp", .double(1_799_999_971.5)),
        ("nbf", .int(1_800_000_029)),
    ])
    func takesOtherForms(_ claim: String, _ value: JSONValue) throws {
        var claims = Self.good
        claims[claim] = value
        #expect(try Self.rules().check(TokenClaims(claims), now: Self.now).name == "alice")
    }

    @Test(
        arguments: [
            ("exp", nil), ("exp", "soon"), ("exp", .int(1_799_999_970)), ("nbf", .int(1_800_000_031)), ("nbf", "later"),
            ("iat", .int(1_800_000_031)), ("iss", nil), ("iss", "https://other.example"), ("aud", nil),
            ("aud", "martlets"),
            ("aud", .array(["other"])), ("scope", nil), ("scope", "openid kafkaesque"), ("sub", nil), ("sub", ""),
            ("sub", .int(7)), ("sub", "a\u{0}b"), ("sub", "ANONYMOUS"), ("exp", .double(1e300)),
        ] as [(String, JSONValue?)]
    )
    func refusesAToken(_ claim: String, _ value: JSONValue?) {
        var claims = Self.good
        claims[claim] = value
        #expect(throws: SaslFailure.self, "\(claim)") { try Self.rules().check(TokenClaims(claims), now: Self.now) }
    }

    // MARK: Signatures

    private static func jwk(_ key: P256.Signing.PrivateKey, _ id: String) -> String {
        let raw = Array(key.publicKey.rawRepresentation)
        func text(_ bytes: ArraySlice<UInt8>) -> String {
            Data(bytes).base64EncodedString().replacing("+", with: "-").replacing("/", with: "_").replacing(
                "=",
                with: ""
            )
        }
        return
            #"{"kty":"EC","crv":"P-256","alg":"ES256","kid":"\#(id)","x":"\#(text(raw[..<32]))","y":"\#(text(raw[32...]))"}"#
    }

    private static func token(_ claims: [String: JSONValue], _ key: P256.Signing.PrivateKey, _ id: String) async throws
        -> String
    {
        let keys = JWTKeyCollection()
        await keys.add(ecdsa: try ES256PrivateKey(pem: key.pemRepresentation), kid: JWKIdentifier(string: id))
        return try await keys.sign(TokenClaims(claims), kid: JWKIdentifier(string: id))
    }

    @Test(.timeLimit(.minutes(5))) func takesWhatAKnownKeySigned() async throws {
        let file = NSTemporaryDirectory() + UUID().uuidString + ".json"
        defer { try? FileManager.default.removeItem(atPath: file) }
        let (key, stranger) = (P256.Signing.PrivateKey(), P256.Signing.PrivateKey())
        let document = #"{"keys":[{"kty":"oct","kid":"x","k":"AAAA"},\#(Self.jwk(key, "one"))]}"#
        try Data(document.utf8).write(to: URL(fileURLWithPath: file))
        let verifier = try TokenVerifier(rules: Self.rules(), keys: file, logger: Logger(label: "test"))
        try await verifier.prepare()
        var claims = Self.good
        claims["exp"] = .int(Int64(Date().timeIntervalSince1970) + 60)
        claims["iat"] = nil
        let good = try await Self.token(claims, key, "one")
        #expect(try await verifier.check(good).name == "alice")
        for (signer, id) in [(stranger, "one"), (stranger, "two")] {
            let forged = try await Self.token(claims, signer, id)
            await #expect(throws: SaslFailure.self) { try await verifier.check(forged) }
        }
        // Without a signature, with another payload, cut off.
        let parts = good.split(separator: ".").map(String.init)
        let none = Data(#"{"alg":"none","typ":"JWT"}"#.utf8).base64EncodedString().replacing("=", with: "")
        for forged in [
            "\(none).\(parts[1]).", "\(parts[0]).\(parts[1])x.\(parts[2])", "\(parts[0]).\(parts[1])", "", "...",
        ] {
            await #expect(throws: SaslFailure.self) { try await verifier.check(forged) }
        }
        claims["exp"] = .int(Int64(Date().timeIntervalSince1970) - 60)
        let old = try await Self.token(claims, key, "one")
        await #expect(throws: SaslFailure("the token has expired")) { try await verifier.check(old) }
    }

    @Test func refusesKeysItCannotUse() async throws {
        let file = NSTemporaryDirectory() + UUID().uuidString + ".json"
        defer { try? FileManager.default.removeItem(atPath: file) }
        for content in [nil, "", "[]", #"{"keys":[]}"#, #"{"keys":[{"kty":"oct","k":"AAAA"}]}"#] {
            if let content { try Data(content.utf8).write(to: URL(fileURLWithPath: file)) }
            let verifier = try TokenVerifier(rules: Self.rules(), keys: file, logger: Logger(label: "test"))
            await #expect(throws: ServiceError.self) { try await verifier.prepare() }
        }
        for place in [
            "http://issuer.example/keys", "HTTP://issuer.example/keys", "http://localhost@issuer.example/keys",
            "ftp://issuer.example/keys", "https:///keys",
        ] {
            #expect(throws: ServiceError.self, "\(place)") {
                try TokenVerifier(rules: Self.rules(), keys: place, logger: Logger(label: "test"))
            }
        }
        #expect(throws: ServiceError.self) {
            try TokenVerifier(
                rules: Self.rules(),
                keys: "https://issuer.example/keys",
                authorities: "/nowhere",
                logger: Logger(label: "test")
            )
        }
    }
}
