// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Crypto
import Foundation
import Identity
import Testing

struct ScramExchangeTests {
    /// The exchange that RFC 7677 prints.
    private static let user = "user"
    private static let password = "pencil"
    private static let serverNonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    private static let first = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    private static let challenge =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    private static let final =
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    private static let proof = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

    private static func verifier(_ password: String = password) throws -> ScramVerifier {
        let salt = try #require(Data(base64Encoded: "W22ZaJ0SNY7soEsUEjb6gQ=="))
        return try ScramVerifier(.sha256, password: password, salt: Array(salt), iterations: 4096)
    }

    @Test func answersAsTheRFCPrints() throws {
        var exchange = ScramExchange(.sha256, serverNonce: Self.serverNonce)
        #expect(try exchange.begin(Array(Self.first.utf8)) == Self.user)
        let challenge = try exchange.challenge(try Self.verifier())
        #expect(String(decoding: challenge, as: UTF8.self) == Self.challenge)
        let answer = try exchange.finish(Array(Self.final.utf8))
        #expect(String(decoding: answer, as: UTF8.self) == Self.proof)
    }

    /// librdkafka before 2.6 writes its own nonce twice; the proof is of what it wrote.
    @Test func takesANonceThatIsWrittenTwice() throws {
        var exchange = ScramExchange(.sha256, serverNonce: Self.serverNonce)
        _ = try exchange.begin(Array(Self.first.utf8))
        let verifier = try Self.verifier()
        let challenge = String(decoding: try exchange.challenge(verifier), as: UTF8.self)
        let bare = "c=biws,r=rOprNGfwEbeRWgbNEkqOrOprNGfwEbeRWgbNEkqO\(Self.serverNonce)"
        let salt = try #require(Data(base64Encoded: "W22ZaJ0SNY7soEsUEjb6gQ=="))
        let salted = try ScramMechanism.sha256.saltedPassword(Self.password, salt: Array(salt), iterations: 4096)
        let key = HMAC<SHA256>.authenticationCode(for: Array("Client Key".utf8), using: SymmetricKey(data: salted))
        let signature = HMAC<SHA256>.authenticationCode(
            for: Array("n=user,r=rOprNGfwEbeRWgbNEkqO,\(challenge),\(bare)".utf8),
            using: SymmetricKey(data: Data(SHA256.hash(data: Data(key))))
        )
        let proof = Data(zip(Array(key), Array(signature)).map { $0 ^ $1 }).base64EncodedString()
        #expect(try exchange.finish(Array("\(bare),p=\(proof)".utf8)).starts(with: Array("v=".utf8)))
    }

    @Test func refusesTheProofOfAnotherPassword() throws {
        var exchange = ScramExchange(.sha256, serverNonce: Self.serverNonce)
        _ = try exchange.begin(Array(Self.first.utf8))
        _ = try exchange.challenge(try Self.verifier("pencils"))
        #expect(throws: SaslFailure("the user or the password is wrong")) {
            try exchange.finish(Array(Self.final.utf8))
        }
        // A refused proof ends the exchange: there is no second try.
        #expect(throws: SaslFailure.self) { try exchange.finish(Array(Self.final.utf8)) }
    }

    @Test(arguments: [
        final.replacing("c=biws", with: "c=eSws"), final.replacing("$k0", with: "$k1"),
        final.replacing(",p=", with: ",q="),
        final.replacing("AndVQ=", with: "AndVQ"), final + "AAAA", "", "c=biws", "p=", ",p=", "\u{0}",
    ])
    func refusesAFinalMessageThatIsChanged(_ message: String) throws {
        var exchange = ScramExchange(.sha256, serverNonce: Self.serverNonce)
        _ = try exchange.begin(Array(Self.first.utf8))
        _ = try exchange.challenge(try Self.verifier())
        #expect(throws: SaslFailure.self) { try exchange.finish(Array(message.utf8)) }
    }

    @Test(arguments: [
        "", "n", "n,,", "n,,n=user", "n,,r=abc,n=user", "p=tls-unique,,n=user,r=abc", "n,a=other,n=user,r=abc",
        "n,,n=,r=abc", "n,,n=us=er,r=abc", "n,,n=user,r=", "n,,n=user,r=a b", "n,,n=user,r=abc,tokenauth=true",
        "n,,m=x,n=user,r=abc", "n,,n=user,r=" + String(repeating: "x", count: 300),
    ])
    func refusesAFirstMessage(_ message: String) {
        var exchange = ScramExchange(.sha256)
        #expect(throws: SaslFailure.self) { try exchange.begin(Array(message.utf8)) }
    }

    @Test(arguments: [
        ("n,,n=user,r=abc", "user"), ("y,,n=user,r=abc", "user"), ("n,a=user,n=user,r=abc", "user"),
        ("n,,n=a=2Cb=3Dc,r=abc", "a,b=c"), ("n,,n=user,r=abc,x=y", "user"), ("n,,n=müller,r=abc", "müller"),
    ])
    func readsTheNameOfAFirstMessage(_ message: String, _ name: String) throws {
        var exchange = ScramExchange(.sha256)
        #expect(try exchange.begin(Array(message.utf8)) == name)
    }

    @Test func refusesMessagesOutOfTurn() throws {
        var exchange = ScramExchange(.sha256)
        #expect(throws: SaslFailure.self) { try exchange.finish(Array(Self.final.utf8)) }
        let verifier = try Self.verifier()
        #expect(throws: SaslFailure.self) { try exchange.challenge(verifier) }
        _ = try exchange.begin(Array(Self.first.utf8))
        #expect(throws: SaslFailure.self) { try exchange.begin(Array(Self.first.utf8)) }
    }

    @Test(arguments: ScramMechanism.allCases)
    func aVerifierKnowsItsPasswordOnly(_ mechanism: ScramMechanism) throws {
        let verifier = try ScramVerifier(mechanism, password: "pässword", iterations: 4096)
        #expect(verifier.matches("pässword"))
        for other in ["", "pässwor", "pässword ", "PÄSSWORD"] { #expect(!verifier.matches(other)) }
        let stored = try JSONEncoder().encode(verifier)
        #expect(!String(decoding: stored, as: UTF8.self).contains("pässword"))
        #expect(try JSONDecoder().decode(ScramVerifier.self, from: stored) == verifier)
    }
}
