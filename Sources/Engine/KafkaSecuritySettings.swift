// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Configuration
import Foundation
package import Identity
import MartletCore

/// Settings of who may use the Kafka door; docs/operations.md lists them.
package struct KafkaSecuritySettings: Sendable {
    /// What connections are like.
    package enum Form: String, Sendable, CaseIterable {
        /// In the clear, with everybody let in.
        case plaintext
        /// Encrypted; a client may have to show a certificate.
        case tls
        /// In the clear, with a login.
        case saslPlaintext = "sasl-plaintext"
        /// Encrypted, with a login.
        case saslTLS = "sasl-tls"

        var isEncrypted: Bool { self == .tls || self == .saslTLS }
        var hasLogin: Bool { self == .saslPlaintext || self == .saslTLS }
    }

    /// Every key of these settings.
    static let keys = [
        "kafka.security", "kafka.tls.certificate", "kafka.tls.key", "kafka.tls.client-ca",
        "kafka.tls.require-client-certificate", "kafka.tls.principal", "kafka.sasl.mechanisms",
        "kafka.session-seconds", "kafka.oauth.jwks", "kafka.oauth.ca", "kafka.oauth.issuer", "kafka.oauth.audience",
        "kafka.oauth.scope", "kafka.oauth.principal-claim", "kafka.oauth.clock-skew-seconds",
        "kafka.acls.enabled", "kafka.acls.super-users",
    ]

    package var form = Form.plaintext
    package var certificate: String?
    package var key: String?
    package var clientAuthorities: String?
    package var requiresClientCertificate = false
    package var subject = CertificateSubject.Rule.subject
    /// Nil offers what is safe on the connection.
    package var mechanisms: [SaslMechanism]?
    /// 0 for sessions that do not end.
    package var sessionSeconds = 0
    package var jwks: String?
    /// File of the authorities that vouch for the address of the keys; nil for those the system trusts.
    package var jwksAuthorities: String?
    package var issuer: String?
    package var audience: String?
    package var scope: String?
    package var principalClaim = "sub"
    package var clockSkewSeconds = 30
    package var usesACLs = false
    package var superUsers: Set<String> = []

    package init() {}

    init(_ reader: ConfigReader) throws {
        form = try Self.choice(reader, "kafka.security", form)
        certificate = Self.text(reader, "kafka.tls.certificate")
        key = Self.text(reader, "kafka.tls.key")
        clientAuthorities = Self.text(reader, "kafka.tls.client-ca")
        requiresClientCertificate = try Self.flag(reader, "kafka.tls.require-client-certificate")
        subject = try Self.choice(reader, "kafka.tls.principal", subject)
        if let names = Self.list(reader, "kafka.sasl.mechanisms") {
            mechanisms = try names.map { name in
                guard let mechanism = SaslMechanism(rawValue: name.uppercased()) else {
                    throw Self.noChoice("kafka.sasl.mechanisms", name, SaslMechanism.allCases.map(\.rawValue))
                }
                return mechanism
            }
        }
        sessionSeconds = try Self.number(reader, "kafka.session-seconds", sessionSeconds, 0...31_536_000)
        jwks = Self.text(reader, "kafka.oauth.jwks")
        jwksAuthorities = Self.text(reader, "kafka.oauth.ca")
        issuer = Self.text(reader, "kafka.oauth.issuer")
        audience = Self.text(reader, "kafka.oauth.audience")
        scope = Self.text(reader, "kafka.oauth.scope")
        principalClaim = Self.text(reader, "kafka.oauth.principal-claim") ?? principalClaim
        clockSkewSeconds = try Self.number(reader, "kafka.oauth.clock-skew-seconds", clockSkewSeconds, 0...600)
        usesACLs = try Self.flag(reader, "kafka.acls.enabled")
        superUsers = try Self.superUsers(Self.list(reader, "kafka.acls.super-users") ?? [])
        try check()
    }

    /// Names as rules have them; subjects of certificates hold commas, so they are divided by semicolons, as Kafka does.
    private static func superUsers(_ names: [String]) throws -> Set<String> {
        for name in names where !name.hasPrefix("User:") || name.utf8.count < 6 {
            throw ServiceError.invalid(
                field: "kafka.acls.super-users",
                "'\(name)' is nobody",
                fix: "write User:NAME, and a semicolon between two"
            )
        }
        return Set(names)
    }

    private func check() throws {
        func refuse(_ key: String, _ message: String, _ fix: String) -> ServiceError {
            .invalid(field: key, message, fix: fix)
        }
        if form.isEncrypted, certificate == nil || key == nil {
            throw refuse(
                "kafka.security",
                "\(form.rawValue) needs a certificate and its key",
                "set kafka.tls.certificate and kafka.tls.key to PEM files"
            )
        }
        if requiresClientCertificate, clientAuthorities == nil {
            throw refuse(
                "kafka.tls.require-client-certificate",
                "nothing says whose certificates are good",
                "set kafka.tls.client-ca to a PEM file of authorities"
            )
        }
        if !form.isEncrypted, certificate != nil || key != nil || clientAuthorities != nil {
            throw refuse(
                "kafka.tls",
                "certificates are named, and kafka.security: \(form.rawValue) does not use them",
                "set kafka.security to tls or sasl-tls"
            )
        }
        if jwks != nil, audience == nil {
            throw refuse(
                "kafka.oauth.audience",
                "is missing: tokens that were issued for other services would be taken",
                "set it to what aud says in tokens for this engine"
            )
        }
        if mechanisms?.isEmpty == true {
            throw refuse("kafka.sasl.mechanisms", "is empty", "leave it out, or name mechanisms")
        }
    }

    private static func configKey(_ key: String) -> ConfigKey { ConfigKey(key.split(separator: ".").map(String.init)) }

    private static func text(_ reader: ConfigReader, _ key: String) -> String? {
        reader.string(forKey: configKey(key)).flatMap { $0.isEmpty ? nil : $0 }
    }

    /// Parts of a text, or a list of the file.
    private static func list(_ reader: ConfigReader, _ key: String) -> [String]? {
        if let text = reader.string(forKey: configKey(key)) {
            let mark: Character = key == "kafka.acls.super-users" ? ";" : ","
            return text.split(separator: mark).map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
        }
        return reader.stringArray(forKey: configKey(key))
    }

    private static func flag(_ reader: ConfigReader, _ key: String) throws -> Bool {
        if let value = reader.bool(forKey: configKey(key)) { return value }
        guard let text = text(reader, key) else { return false }
        throw noChoice(key, text, ["true", "false"])
    }

    private static func number(
        _ reader: ConfigReader,
        _ key: String,
        _ value: Int,
        _ range: ClosedRange<Int>
    ) throws -> Int {
        if let number = reader.int(forKey: configKey(key)), range.contains(number) { return number }
        guard let text = text(reader, key) ?? reader.int(forKey: configKey(key)).map(String.init) else { return value }
        throw ServiceError.invalid(
            field: key,
            "'\(text)' is out of range",
            fix: "use \(range.lowerBound) to \(range.upperBound)"
        )
    }

    private static func choice<Choice: RawRepresentable<String> & CaseIterable>(
        _ reader: ConfigReader,
        _ key: String,
        _ value: Choice
    ) throws -> Choice {
        guard let text = text(reader, key) else { return value }
        guard let choice = Choice(rawValue: text.lowercased()) else {
            throw noChoice(key, text, Choice.allCases.map(\.rawValue))
        }
        return choice
    }

    private static func noChoice(_ key: String, _ text: String, _ choices: [String]) -> ServiceError {
        .invalid(field: key, "'\(text)' is not possible", fix: "use \(choices.joined(separator: ", "))")
    }
}
