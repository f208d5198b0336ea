// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import API
import KafkaAPI
import MartletCore

extension Engine {
    /// How far Kafka's port is from the HTTP server's where it is not set: 9092 beside 8070.
    private static let kafkaPortDistance = 1022

    /// The door for Kafka's clients, or nil where it is switched off.
    ///
    /// - Throws: `ServiceError` where it would be open to everybody.
    func kafkaServer(_ parts: EngineParts, _ addresses: ListeningAddresses) throws -> KafkaServer? {
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
        guard APIConfiguration.isLoopback(kafka.host) || configuration.kafkaAllowsAnonymous else {
            throw ServiceError(
                .failedPrecondition,
                "refusing to listen for Kafka on \(kafka.host): everybody who can reach that address could read and write",
                fix: "listen on 127.0.0.1, or say kafka.allow-anonymous: true where the network keeps strangers out"
            )
        }
        let host = kafka.host
        return KafkaServer(
            door: KafkaDoor(
                configuration: kafka,
                log: parts.stores.log,
                topics: parts.topics,
                groups: parts.groups,
                transactions: parts.transactions,
                logger: logger
            ),
            onListening: { port in addresses.kafkaListens(host, port) }
        )
    }

    private static func kafkaPort(besides port: Int) -> Int {
        // A free one where the HTTP server has one, and where there is none so far up.
        port == 0 || port + kafkaPortDistance > 65535 ? 0 : port + kafkaPortDistance
    }
}
