// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import API
import Identity
import KafkaAPI
import MartletCore

extension Engine {
    /// How far Kafka's port is from the HTTP server's where it is not set: 9092 beside 8070.
    private static let kafkaPortDistance = 1022

    /// The door for Kafka's clients, or nil where it is switched off.
    ///
    /// - Throws: `ServiceError` where it would be open to everybody.
    func kafkaServer(_ parts: EngineParts, _ addresses: ListeningAddresses) async throws -> KafkaServer? {
        guard configuration.kafkaEnabled else { return nil }
        var kafka = KafkaConfiguration()
        kafka.host = configuration.kafkaHost
        kafka.port = configuration.kafkaPort ?? Self.kafkaPort(besides: configuration.port)
        kafka.advertisedHost = configuration.kafkaAdvertisedHost
        kafka.advertisedPort = configuration.kafkaAdvertisedPort
        kafka.partitionsDefault = Int32(clamping: configuration.kafkaDefaultPartitions)
        kafka.createsTopics = configuration.kafkaCreatesTopics
        for (key, port) in [("kafka.port", kafka.port), ("kafka.advertised-port", kafka.advertisedPort ?? 0)] {
            guard (0...65535).contains(port) else {
                throw ServiceError(
                    .failedPrecondition,
                    "port \(port) is out of range",
                    fix: "choose a port from 1 to 65535 with \(key)"
                )
            }
        }
        try checkStrangers(kafka.host)
        let host = kafka.host
        return KafkaServer(
            door: KafkaDoor(
                configuration: kafka,
                log: parts.stores.log,
                topics: parts.topics,
                groups: parts.groups,
                transactions: parts.transactions,
                security: try await kafkaSecurity(parts),
                logger: logger
            ),
            onListening: { port in addresses.kafkaListens(host, port) }
        )
    }

    /// Refuses to let everybody in where others can reach the engine.
    private func checkStrangers(_ host: String) throws {
        let settings = configuration.kafkaSecurity
        let knowsClients = settings.form.hasLogin || (settings.form == .tls && settings.requiresClientCertificate)
        guard APIConfiguration.isLoopback(host) || knowsClients || configuration.kafkaAllowsAnonymous else {
            throw ServiceError(
                .failedPrecondition,
                "refusing to listen for Kafka on \(host): everybody who can reach that address could read and write",
                fix: """
                    set kafka.security: sasl-tls and make users with: martlet kafka users create NAME; or listen on 127.0.0.1; \
                    or say kafka.allow-anonymous: true where the network keeps strangers out
                    """
            )
        }
    }

    private func kafkaSecurity(_ parts: EngineParts) async throws -> KafkaSecurity {
        let settings = configuration.kafkaSecurity
        var security = KafkaSecurity(users: parts.stores.access.users, access: parts.stores.access.rules)
        if settings.form.isEncrypted, let certificate = settings.certificate, let key = settings.key {
            var tls = TLSSettings(certificate: certificate, key: key)
            tls.clientAuthorities = settings.clientAuthorities
            tls.requiresClientCertificate = settings.requiresClientCertificate
            tls.subject = settings.subject
            security.tls = tls
        }
        if settings.form.hasLogin { security.authenticator = try await authenticator(parts) }
        return security
    }

    private func authenticator(_ parts: EngineParts) async throws -> Authenticator {
        let settings = configuration.kafkaSecurity
        var tokens: TokenVerifier?
        if let jwks = settings.jwks, let audience = settings.audience {
            var rules = TokenRules(audience: audience)
            rules.issuer = settings.issuer
            rules.scope = settings.scope
            rules.principalClaim = settings.principalClaim
            rules.skew = Double(settings.clockSkewSeconds)
            let verifier = try TokenVerifier(
                rules: rules,
                keys: jwks,
                authorities: settings.jwksAuthorities,
                logger: logger
            )
            try await verifier.prepare()
            tokens = verifier
        }
        var made = Authenticator.Settings()
        let takesTokens = tokens != nil || configuration.token != nil
        // In the clear, and where others listen, secrets go over the network only where the operator names them.
        let isExposed = !settings.form.isEncrypted && !APIConfiguration.isLoopback(configuration.kafkaHost)
        made.mechanisms =
            settings.mechanisms
            ?? [.scramSHA512, .scramSHA256, .plain, .oauthBearer].filter { mechanism in
                (takesTokens || mechanism != .oauthBearer) && !(isExposed && mechanism.showsSecret)
            }
        guard takesTokens || !made.mechanisms.contains(.oauthBearer) else {
            throw ServiceError.invalid(
                field: "kafka.sasl.mechanisms",
                "OAUTHBEARER is offered and nothing says which tokens are good",
                fix: "set kafka.oauth.jwks and kafka.oauth.audience"
            )
        }
        made.sessionLifetime = settings.sessionSeconds > 0 ? .seconds(settings.sessionSeconds) : nil
        made.token = configuration.token
        made.readToken = configuration.readToken
        return Authenticator(
            settings: made,
            users: parts.stores.access.users,
            tokens: tokens,
            metrics: parts.stores.metrics,
            logger: logger
        )
    }

    private static func kafkaPort(besides port: Int) -> Int {
        // A free one where the HTTP server has one, and where there is none so far up.
        port == 0 || port + kafkaPortDistance > 65535 ? 0 : port + kafkaPortDistance
    }
}
