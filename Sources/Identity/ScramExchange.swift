// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore

/// The server's side of one SCRAM login, without channel binding; no I/O.
///
/// ``begin(_:)`` reads the first message and says whose verifier is wanted, ``challenge(_:)`` answers it, ``finish(_:)`` checks the proof.
package struct ScramExchange: Sendable {
    private enum State {
        case new
        case named(header: String, bare: String, nonce: String)
        case challenged(header: String, verifier: ScramVerifier, nonce: String, messages: String)
        case ended
    }

    private let mechanism: ScramMechanism
    private let serverNonce: String
    private var state = State.new

    /// Begins an exchange.
    ///
    /// `serverNonce` is printable ASCII without commas that was never used before.
    package init(_ mechanism: ScramMechanism, serverNonce: String = Data(SecureRandom.bytes(24)).base64EncodedString())
    {
        self.mechanism = mechanism
        self.serverNonce = serverNonce
    }

    /// Reads the client's first message.
    ///
    /// - Returns: The user it names.
    package mutating func begin(_ message: [UInt8]) throws(SaslFailure) -> String {
        guard case .new = state else { throw SaslFailure("a second first message") }
        state = .ended
        guard let text = String(validating: message, as: UTF8.self) else {
            throw SaslFailure("the message is no UTF-8")
        }
        let parts = text.fields(",", splitsMax: 2)
        guard parts.count == 3 else { throw SaslFailure("the message has no GS2 header") }
        guard parts[0] == "n" || parts[0] == "y" else { throw SaslFailure("channel binding is not offered") }
        let fields = parts[2].fields(",")
        guard fields.count >= 2, let user = Self.value("n", fields[0]).flatMap(Self.name),
            let nonce = Self.value("r", fields[1])
        else { throw SaslFailure("the first message lacks a user name or a nonce") }
        guard !user.isEmpty, Self.isNonce(nonce) else { throw SaslFailure("the user name or the nonce is unusable") }
        guard fields.dropFirst(2).allSatisfy({ $0.rest(after: "tokenauth=true") == nil && $0.rest(after: "m=") == nil })
        else {
            throw SaslFailure("the client wants an extension there is not")
        }
        if !parts[1].isEmpty {
            guard let other = Self.value("a", parts[1]).flatMap(Self.name), other.utf8.elementsEqual(user.utf8)
            else {
                throw SaslFailure("the client wants to act for somebody else")
            }
        }
        state = .named(header: "\(parts[0]),\(parts[1]),", bare: parts[2], nonce: nonce + serverNonce)
        return user
    }

    /// The message that goes to the client: nonce, salt and rounds.
    package mutating func challenge(_ verifier: ScramVerifier) throws(SaslFailure) -> [UInt8] {
        guard case .named(let header, let bare, let nonce) = state else { throw SaslFailure("nobody was named") }
        let text = "r=\(nonce),s=\(verifier.salt.base64EncodedString()),i=\(verifier.iterations)"
        state = .challenged(header: header, verifier: verifier, nonce: nonce, messages: "\(bare),\(text)")
        return Array(text.utf8)
    }

    /// Checks the client's proof.
    ///
    /// - Returns: The message that proves the server to the client.
    package mutating func finish(_ message: [UInt8]) throws(SaslFailure) -> [UInt8] {
        guard case .challenged(let header, let verifier, let nonce, let messages) = state else {
            throw SaslFailure("a final message without a challenge")
        }
        state = .ended
        guard let text = String(validating: message, as: UTF8.self),
            let mark = text.range(of: ",p=", options: .backwards)
        else { throw SaslFailure("the final message lacks a proof") }
        let bare = String(text[..<mark.lowerBound])
        let fields = bare.fields(",")
        guard fields.count >= 2, Self.value("c", fields[0]) == Data(header.utf8).base64EncodedString() else {
            throw SaslFailure("the final message is bound to another header")
        }
        // librdkafka before 2.6 puts its own nonce in front once more; Kafka takes that, and the proof covers it.
        guard Self.value("r", fields[1])?.hasSuffix(nonce) == true else { throw SaslFailure("the nonce is another") }
        guard let proof = Data(base64Encoded: String(text[mark.upperBound...])), proof.count == mechanism.hashBytes
        else {
            throw SaslFailure("the proof is unusable")
        }
        let all = Array("\(messages),\(bare)".utf8)
        let signature = mechanism.code(all, key: Array(verifier.storedKey))
        let clientKey = zip(proof, signature).map { $0 ^ $1 }
        guard SecretText.areEqual(mechanism.hash(clientKey), Array(verifier.storedKey)) else {
            throw SaslFailure("the user or the password is wrong")
        }
        let answer = mechanism.code(all, key: Array(verifier.serverKey))
        return Array("v=\(Data(answer).base64EncodedString())".utf8)
    }

    private static func value(_ key: String, _ field: String) -> String? { field.rest(after: "\(key)=") }

    /// A name with its commas and equals signs back; nil where an equals sign stands for nothing.
    private static func name(_ text: String) -> String? {
        var parts = text.fields("=")
        var name = parts.removeFirst()
        for part in parts {
            if let rest = part.rest(after: "2C") {
                name += "," + rest
            } else if let rest = part.rest(after: "3D") {
                name += "=" + rest
            } else {
                return nil
            }
        }
        return name
    }

    private static func isNonce(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.count <= 256 && text.utf8.allSatisfy { (0x21...0x7E).contains($0) && $0 != 0x2C }
    }
}
