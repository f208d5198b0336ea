// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import KafkaCodec
import Testing

/// Clients that docs/kafka.md names find a version of every request that they can send and that is served.
struct ClientVersionTests {
    /// The versions that a client can send; only one where it always sends the same.
    struct Client: CustomTestStringConvertible, Sendable {
        let name: String
        let ranges: [KafkaAPIKey: ClosedRange<Int16>]

        var testDescription: String { name }
    }

    static let clients = [oldLibrdkafka, kcat, librdkafka, java, franzGo, kafkaJS, platformatic, kafkaPython, aiokafka]

    /// librdkafka 1.8.2, the oldest whose requests are all served: before, it sends ListOffsets 0, before 1.3 OffsetCommit 1.
    static let oldLibrdkafka = Client(
        name: "librdkafka 1.8.2",
        ranges: [
            .apiVersions: 0...3, .metadata: 0...4, .produce: 0...7, .fetch: 0...11, .listOffsets: 0...2,
            .findCoordinator: 0...2, .joinGroup: 0...5, .syncGroup: 0...3, .heartbeat: 0...3, .leaveGroup: 0...1,
            .offsetCommit: 0...7, .offsetFetch: 0...7, .initProducerId: 0...4, .addPartitionsToTxn: 0...0,
            .addOffsetsToTxn: 0...0, .txnOffsetCommit: 0...3, .endTxn: 0...1, .saslHandshake: 0...1,
            .saslAuthenticate: 0...0, .describeGroups: 0...0, .listGroups: 0...0, .createTopics: 0...4,
            .deleteTopics: 0...1, .deleteRecords: 0...1, .createPartitions: 0...0, .alterConfigs: 0...0,
            .describeConfigs: 0...1, .deleteGroups: 0...1, .offsetDelete: 0...0,
        ]
    )

    /// What kcat of Debian stands on, librdkafka 2.0.2.
    static let kcat = Client(
        name: "librdkafka 2.0.2",
        ranges: oldLibrdkafka.ranges.merging(
            [
                .createAcls: 0...1, .describeAcls: 0...1, .deleteAcls: 0...1, .describeGroups: 0...4,
                .listGroups: 0...4,
            ]
        ) { $1 }
    )

    static let librdkafka = Client(
        name: "librdkafka 2.15.0",
        ranges: [
            .apiVersions: 0...3, .metadata: 0...13, .produce: 0...10, .fetch: 0...16, .listOffsets: 0...7,
            .findCoordinator: 0...2, .joinGroup: 0...5, .syncGroup: 0...3, .heartbeat: 0...3, .leaveGroup: 0...1,
            .offsetCommit: 0...9, .offsetFetch: 0...9, .offsetForLeaderEpoch: 2...2, .initProducerId: 3...4,
            .addPartitionsToTxn: 0...0, .addOffsetsToTxn: 0...0, .txnOffsetCommit: 0...3, .endTxn: 0...1,
            .saslHandshake: 0...1, .saslAuthenticate: 0...1, .describeGroups: 0...5, .listGroups: 0...5,
            .createTopics: 0...4, .deleteTopics: 0...4, .deleteRecords: 0...2, .createPartitions: 0...2,
            .alterConfigs: 0...2, .incrementalAlterConfigs: 0...1, .describeConfigs: 0...1, .deleteGroups: 0...2,
            .offsetDelete: 0...0, .createAcls: 0...2, .describeAcls: 0...2, .deleteAcls: 0...2,
            .describeUserScramCredentials: 0...0,
        ]
    )

    /// The Java client of Kafka 4: the versions its message schemas still have (KIP-896).
    static let java = Client(
        name: "Java 4.x",
        ranges: [
            .produce: 3...13, .fetch: 4...18, .listOffsets: 1...11, .metadata: 0...13, .offsetCommit: 2...10,
            .offsetFetch: 1...10, .findCoordinator: 0...6, .joinGroup: 0...9, .heartbeat: 0...4, .leaveGroup: 0...5,
            .syncGroup: 0...5, .describeGroups: 0...6, .listGroups: 0...5, .saslHandshake: 0...1, .apiVersions: 0...4,
            .createTopics: 2...7, .deleteTopics: 1...6, .deleteRecords: 0...2, .initProducerId: 0...6,
            .offsetForLeaderEpoch: 2...4, .addPartitionsToTxn: 0...5, .addOffsetsToTxn: 0...4, .endTxn: 0...5,
            .txnOffsetCommit: 0...5, .describeConfigs: 1...4, .alterConfigs: 0...2, .saslAuthenticate: 0...2,
            .createPartitions: 0...3, .deleteGroups: 0...2, .incrementalAlterConfigs: 0...1, .offsetDelete: 0...0,
            .describeCluster: 0...2, .describeTopicPartitions: 0...0,
        ]
    )

    static let franzGo = Client(
        name: "franz-go 1.21.5",
        ranges: [
            .produce: 0...13, .fetch: 0...18, .listOffsets: 0...11, .metadata: 0...13, .offsetCommit: 0...10,
            .offsetFetch: 0...10, .findCoordinator: 0...6, .joinGroup: 0...9, .heartbeat: 0...4, .leaveGroup: 0...5,
            .syncGroup: 0...5, .describeGroups: 0...6, .listGroups: 0...5, .saslHandshake: 0...1, .apiVersions: 0...4,
            .createTopics: 0...7, .deleteTopics: 0...6, .deleteRecords: 0...2, .initProducerId: 0...5,
            .offsetForLeaderEpoch: 0...4, .addPartitionsToTxn: 0...5, .addOffsetsToTxn: 0...4, .endTxn: 0...5,
            .txnOffsetCommit: 0...5, .describeConfigs: 0...4, .alterConfigs: 0...2, .saslAuthenticate: 0...2,
            .createPartitions: 0...3, .deleteGroups: 0...2, .incrementalAlterConfigs: 0...1, .offsetDelete: 0...0,
            .describeCluster: 0...2,
        ]
    )

    static let kafkaJS = Client(
        name: "KafkaJS 2.2.4",
        ranges: [
            .apiVersions: 0...2, .metadata: 0...6, .produce: 0...7, .fetch: 0...11, .listOffsets: 0...3,
            .findCoordinator: 0...2, .joinGroup: 0...5, .syncGroup: 0...3, .heartbeat: 0...3, .leaveGroup: 0...3,
            .offsetCommit: 0...5, .offsetFetch: 1...4, .initProducerId: 0...1, .addPartitionsToTxn: 0...1,
            .addOffsetsToTxn: 0...1, .txnOffsetCommit: 0...1, .endTxn: 0...1, .saslHandshake: 0...1,
            .saslAuthenticate: 0...1, .describeGroups: 0...2, .listGroups: 0...2, .createTopics: 0...3,
            .deleteTopics: 0...1, .deleteRecords: 0...1, .createPartitions: 0...1, .alterConfigs: 0...1,
            .describeConfigs: 0...2, .deleteGroups: 0...1, .createAcls: 0...1, .describeAcls: 0...1, .deleteAcls: 0...1,
        ]
    )

    /// The Node client with the highest lowest versions.
    static let platformatic = Client(
        name: "@platformatic/kafka",
        ranges: [
            .apiVersions: 3...4, .metadata: 9...12, .produce: 7...11, .fetch: 12...17, .listOffsets: 5...9,
            .offsetCommit: 8...9, .offsetFetch: 8...9, .findCoordinator: 4...6, .joinGroup: 6...9, .heartbeat: 4...4,
            .leaveGroup: 4...5, .syncGroup: 4...5, .createTopics: 7...7, .initProducerId: 3...5,
        ]
    )

    /// The highest versions seen of it; it reads all the schemas that the messages here are made from.
    static let kafkaPython = Client(
        name: "kafka-python 3.0.12",
        ranges: [
            .apiVersions: 0...4, .metadata: 0...13, .produce: 3...9, .fetch: 4...12, .listOffsets: 1...10,
            .offsetCommit: 2...8, .offsetFetch: 1...8, .findCoordinator: 0...6, .joinGroup: 0...7, .heartbeat: 0...4,
            .leaveGroup: 0...5, .syncGroup: 0...5, .describeGroups: 0...6, .listGroups: 0...5, .saslHandshake: 0...1,
            .saslAuthenticate: 0...2, .createTopics: 2...7, .deleteTopics: 1...6, .deleteRecords: 0...2,
            .initProducerId: 0...4, .addPartitionsToTxn: 0...3, .endTxn: 0...3, .describeConfigs: 1...4,
            .createPartitions: 0...3, .incrementalAlterConfigs: 0...1, .describeCluster: 0...1,
        ]
    )

    static let aiokafka = Client(
        name: "aiokafka 0.14.0",
        ranges: [
            .apiVersions: 0...0, .metadata: 0...5, .produce: 0...7, .fetch: 0...11, .listOffsets: 0...3,
            .offsetCommit: 2...3, .offsetFetch: 1...3, .findCoordinator: 0...1, .joinGroup: 0...5, .heartbeat: 0...3,
            .leaveGroup: 0...1, .syncGroup: 0...3, .describeGroups: 0...3, .listGroups: 0...1, .saslHandshake: 0...1,
            .saslAuthenticate: 0...1, .createTopics: 0...3, .deleteTopics: 0...3, .initProducerId: 0...0,
            .addPartitionsToTxn: 0...0, .addOffsetsToTxn: 0...0,
        ]
    )

    @Test(arguments: clients) func theHighestVersionOfBothIsServed(_ client: Client) {
        for (api, range) in client.ranges {
            let highest = min(range.upperBound, api.advertisedVersions.upperBound)
            #expect(highest >= range.lowerBound, "\(api): \(client.name) sends \(range)")
            #expect(api.versions.contains(highest), "\(api): \(client.name) would send \(highest)")
        }
    }

    /// Kafka 4 serves clients from 2.1 on, Java's and those that follow it, by keeping these versions; later ones are not needed.
    @Test func nothingBeginsLaterThanInKafka4() {
        for (api, range) in Self.java.ranges {
            #expect(api.versions.lowerBound <= range.lowerBound, "\(api)")
            #expect(api.advertisedVersions.lowerBound <= range.lowerBound, "\(api)")
        }
    }

    /// What librdkafka makes use of only where the broker has one of these versions, whatever else it has.
    @Test(arguments: [
        ("message format 2", [(KafkaAPIKey.produce, Int16(3)), (.fetch, 4)]), ("zstd", [(.produce, 7), (.fetch, 10)]),
        ("offsets by time", [(.listOffsets, 1)]), ("idempotent producers", [(.initProducerId, 0)]),
        ("lz4", [(.findCoordinator, 0)]), ("gzip and snappy", [(.produce, 0)]), ("SASL", [(.saslHandshake, 0)]),
        ("SASL in requests", [(.saslHandshake, 1), (.saslAuthenticate, 0)]),
        (
            "groups",
            [(.findCoordinator, 0), (.offsetCommit, 2), (.offsetFetch, 1), (.joinGroup, 0), (.syncGroup, 0)]
                + [(.heartbeat, 0), (.leaveGroup, 0)]
        ),
    ])
    func librdkafkaFindsWhatItAsksFor(_ feature: String, _ needed: [(KafkaAPIKey, Int16)]) {
        for (api, version) in needed { #expect(api.advertisedVersions.contains(version), "\(feature): \(api)") }
    }
}
