// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Comparison of secrets.
package enum SecretText {
    /// Compares in a time that depends on the length of `given` alone.
    package static func areEqual(_ given: [UInt8], _ secret: [UInt8]) -> Bool {
        var difference = given.count ^ secret.count
        for (index, byte) in given.enumerated() where !secret.isEmpty {
            difference |= Int(byte ^ secret[index % secret.count])
        }
        return difference == 0
    }
}
