// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore

/// What checks a password without telling it: the salted keys of one SCRAM mechanism.
package struct ScramVerifier: Sendable, Equatable, Codable {
    /// Rounds for new passwords: the most that Kafka's own tools take.
    package static let iterationsDefault = 16_384
    /// Rounds that other tools may ask for.
    package static let iterationsAllowed = 4_096...16_384
    static let saltBytes = 24

    let mechanism: ScramMechanism
    let salt: Data
    package let iterations: Int
    let storedKey: Data
    let serverKey: Data

    /// Keeps what checks a salted password, which is as long as the mechanism's hash.
    package init(_ mechanism: ScramMechanism, salt: [UInt8], iterations: Int, saltedPassword: [UInt8]) {
        self.mechanism = mechanism
        self.salt = Data(salt)
        self.iterations = iterations
        storedKey = Data(mechanism.hash(mechanism.code(Array("Client Key".utf8), key: saltedPassword)))
        serverKey = Data(mechanism.code(Array("Server Key".utf8), key: saltedPassword))
    }

    /// Salts and hashes a password; takes milliseconds of processor time.
    package init(
        _ mechanism: ScramMechanism,
        password: String,
        salt: [UInt8] = SecureRandom.bytes(saltBytes),
        iterations: Int = iterationsDefault
    ) throws {
        self.init(
            mechanism,
            salt: salt,
            iterations: iterations,
            saltedPassword: try mechanism.saltedPassword(password, salt: salt, iterations: iterations)
        )
    }

    /// Whether this is the password; takes milliseconds of processor time.
    package func matches(_ password: String) -> Bool {
        guard let given = try? ScramVerifier(mechanism, password: password, salt: Array(salt), iterations: iterations)
        else { return false }
        return SecretText.areEqual(Array(given.storedKey), Array(storedKey))
    }
}

/// Bytes nobody can guess.
package enum SecureRandom {
    /// So many of them.
    package static func bytes(_ count: Int) -> [UInt8] {
        var generator = SystemRandomNumberGenerator()
        return (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
    }
}
