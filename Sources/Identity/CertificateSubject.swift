// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import SwiftASN1
import X509

/// Whom a client's certificate names.
package enum CertificateSubject {
    /// What of the certificate is the user's name.
    package enum Rule: String, Sendable, CaseIterable {
        /// The whole subject, such as `CN=alice,O=example`.
        case subject
        /// The common name alone, such as `alice`.
        case commonName = "common-name"
    }

    /// The longest name; with what stands in front of it, the longest that a rule can be about.
    private static let nameBytesMax = 1024

    /// The user's name in a certificate (DER), which must have been verified.
    ///
    /// - Returns: nil where there is no such name.
    package static func name(of certificate: [UInt8], _ rule: Rule) -> String? {
        guard let certificate = try? Certificate(derEncoded: certificate) else { return nil }
        let name: String?
        switch rule {
        case .subject: name = certificate.subject.description
        case .commonName:
            let names = certificate.subject.flatMap { $0 }.filter { $0.type == .RDNAttributeType.commonName }
            name = names.count == 1 ? names.first.flatMap { String($0.value) } : nil
        }
        guard let name, (1...nameBytesMax).contains(name.utf8.count), name.isInOneForm,
            name != Principal.anonymous.name,
            name.unicodeScalars.allSatisfy({ $0.properties.generalCategory != .control })
        else { return nil }
        return name
    }
}
