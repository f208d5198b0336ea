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

    /// The user's name in a certificate (DER), which must have been verified.
    ///
    /// - Returns: nil where there is no such name.
    package static func name(of certificate: [UInt8], _ rule: Rule) -> String? {
        guard let certificate = try? Certificate(derEncoded: certificate) else { return nil }
        switch rule {
        case .subject:
            let text = certificate.subject.description
            return text.isEmpty || !text.isInOneForm ? nil : text
        case .commonName:
            let names = certificate.subject.flatMap { $0 }.filter { $0.type == .RDNAttributeType.commonName }
            guard names.count == 1, let name = names.first.flatMap({ String($0.value) }), !name.isEmpty,
                name.isInOneForm, name != Principal.anonymous.name
            else { return nil }
            return name
        }
    }
}
