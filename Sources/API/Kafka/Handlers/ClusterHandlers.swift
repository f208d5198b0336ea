// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import Logging
import MartletCore
import Topics

// What the cluster is: its APIs, its one broker, its topics.
extension KafkaDoor {
    /// The table of versions.
    static func servedVersions() -> ApiVersionsResponse {
        ApiVersionsResponse(
            apiKeys: servedAPIs.map { api in
                ApiVersionsResponse.ApiVersion(
                    apiKey: api.rawValue,
                    minVersion: api.advertisedVersions.lowerBound,
                    maxVersion: api.advertisedVersions.upperBound
                )
            },
            supportedFeatures: [
                ApiVersionsResponse.SupportedFeatureKey(
                    name: transactionFeature,
                    minVersion: 1,
                    maxVersion: transactionLevel
                )
            ],
            finalizedFeaturesEpoch: 0,
            finalizedFeatures: [
                ApiVersionsResponse.FinalizedFeatureKey(
                    name: transactionFeature,
                    maxVersionLevel: transactionLevel,
                    minVersionLevel: transactionLevel
                )
            ]
        )
    }

    /// Tells clients that each transaction may raise the epoch, and that batches and offsets add themselves to it (KIP-890).
    private static let transactionFeature = "transaction.version"
    private static let transactionLevel: Int16 = 2

    /// The APIs that ``call(_:_:)`` knows, and Produce.
    private static let servedAPIs: [KafkaAPIKey] = [
        .produce, .fetch, .listOffsets, .metadata, .offsetCommit, .offsetFetch, .findCoordinator, .joinGroup,
        .heartbeat, .leaveGroup, .syncGroup, .describeGroups, .listGroups, .apiVersions, .createTopics, .deleteTopics,
        .deleteRecords, .initProducerId, .offsetForLeaderEpoch, .addPartitionsToTxn, .addOffsetsToTxn, .endTxn,
        .txnOffsetCommit, .describeConfigs, .alterConfigs, .describeLogDirs, .createPartitions, .deleteGroups,
        .incrementalAlterConfigs, .offsetDelete, .describeCluster, .describeProducers, .describeTransactions,
        .listTransactions, .describeTopicPartitions, .saslHandshake, .saslAuthenticate, .describeAcls, .createAcls,
        .deleteAcls, .describeUserScramCredentials, .alterUserScramCredentials,
    ]

    func apiVersions(_ request: ApiVersionsRequest, _ call: Call) -> ApiVersionsResponse { Self.servedVersions() }

    func metadata(_ request: MetadataRequest, _ call: Call) async -> MetadataResponse {
        let place = advertised(to: call.session)
        var response = MetadataResponse(
            brokers: [
                MetadataResponse.MetadataResponseBroker(nodeID: Self.nodeID, host: place.host, port: place.port)
            ],
            clusterID: configuration.clusterID,
            controllerID: Self.nodeID,
            clusterAuthorizedOperations: clusterOperations(request.includeClusterAuthorizedOperations, call)
        )
        // Version 0 has no null: there an empty list means all.
        if let wanted = request.topics, call.version > 0 || !wanted.isEmpty {
            let mayCreate = configuration.createsTopics && (call.version < 4 || request.allowAutoTopicCreation)
            for topic in wanted.withoutRepeats({ Wanted(name: $0.name, id: $0.name == nil ? $0.topicID : .zero) }) {
                response.topics.append(await find(topic, mayCreate: mayCreate, call))
            }
        } else {
            response.topics = log.topics().filter { sees(call.session, .topic, $0.name) }.map(Self.describe)
        }
        if request.includeTopicAuthorizedOperations {
            for place in response.topics.indices where response.topics[place].errorCode == .noError {
                guard let name = response.topics[place].name else { continue }
                response.topics[place].topicAuthorizedOperations = operations(call.session, .topic, name)
            }
        }
        return response
    }

    /// What a topic is asked for by.
    struct Wanted: Hashable {
        let name: String?
        let id: KafkaUUID
    }

    private func find(
        _ wanted: MetadataRequest.MetadataRequestTopic,
        mayCreate: Bool,
        _ call: Call
    ) async -> MetadataResponse.MetadataResponseTopic {
        typealias Topic = MetadataResponse.MetadataResponseTopic
        guard let name = wanted.name else {
            if let found = log.topic(id: wanted.topicID), may(call.session, .describe, topic: found.name) {
                return Self.describe(found)
            }
            return Topic(
                errorCode: .unknownTopicId,
                topicID: wanted.topicID,
                topicAuthorizedOperations: Self.noOperations
            )
        }
        func refused(_ code: KafkaErrorCode) -> Topic {
            Topic(errorCode: code, name: name, topicAuthorizedOperations: Self.noOperations)
        }
        // The same for a topic that is there and one that is not, so that nobody learns which.
        guard may(call.session, .describe, topic: name) else { return refused(.topicAuthorizationFailed) }
        if let found = log.topic(name) { return Self.describe(found) }
        do throws(EventLogError) {
            try TopicName.validate(name)
        } catch {
            return refused(.invalidTopicException)
        }
        // Said to be unknown, a producer would wait for it to be made until its records are overdue.
        guard !EngineTopic.isOne(name) else { return refused(.topicAuthorizationFailed) }
        guard mayCreate else { return refused(.unknownTopicOrPartition) }
        guard sees(call.session, .cluster, KafkaACL.clusterName, .create) || may(call.session, .create, topic: name)
        else {
            return refused(.topicAuthorizationFailed)
        }
        do {
            try await topics.create(
                name,
                partitions: configuration.partitionsDefault,
                configs: [:],
                validateOnly: false
            )
        } catch let error as ServiceError where error.code == .alreadyExists {
            // Another client was faster.
        } catch {
            logger.warning("a topic was not made", metadata: ["topic": "\(name)", "error": "\(error)"])
            return refused(TopicRefusal(error).code)
        }
        return log.topic(name).map(Self.describe) ?? refused(.leaderNotAvailable)
    }

    private static func describe(_ topic: TopicDescription) -> MetadataResponse.MetadataResponseTopic {
        MetadataResponse.MetadataResponseTopic(
            name: topic.name,
            topicID: KafkaUUID(topic.id),
            isInternal: topic.isInternal,
            partitions: (0..<topic.partitions).map { number in
                MetadataResponse.MetadataResponsePartition(
                    partitionIndex: number,
                    leaderID: nodeID,
                    leaderEpoch: leaderEpoch,
                    replicaNodes: [nodeID],
                    isrNodes: [nodeID]
                )
            },
            topicAuthorizedOperations: noOperations
        )
    }

    func describeCluster(_ request: DescribeClusterRequest, _ call: Call) -> DescribeClusterResponse {
        let place = advertised(to: call.session)
        return DescribeClusterResponse(
            endpointType: request.endpointType,
            clusterID: configuration.clusterID,
            controllerID: Self.nodeID,
            brokers: [
                DescribeClusterResponse.DescribeClusterBroker(
                    brokerID: Self.nodeID,
                    host: place.host,
                    port: place.port
                )
            ],
            clusterAuthorizedOperations: clusterOperations(request.includeClusterAuthorizedOperations, call)
        )
    }

    private func clusterOperations(_ isWanted: Bool, _ call: Call) -> Int32 {
        isWanted ? operations(call.session, .cluster, KafkaACL.clusterName) : Self.noOperations
    }

    /// Metadata in pages: at most so many partitions, and where to go on.
    func describeTopicPartitions(
        _ request: DescribeTopicPartitionsRequest,
        _ call: Call
    ) -> DescribeTopicPartitionsResponse {
        typealias Topic = DescribeTopicPartitionsResponse.DescribeTopicPartitionsResponseTopic
        typealias Partition = DescribeTopicPartitionsResponse.DescribeTopicPartitionsResponsePartition
        let names =
            request.topics.isEmpty
            ? log.topics().map(\.name).filter { sees(call.session, .topic, $0) }
            : Set(request.topics.map(\.name)).sorted()
        var left = Int(min(max(1, request.responsePartitionLimit), 2000))
        var response = DescribeTopicPartitionsResponse()
        for name in names {
            if let cursor = request.cursor, name < cursor.topicName { continue }
            guard left > 0 else {
                response.nextCursor = DescribeTopicPartitionsResponse.Cursor(topicName: name, partitionIndex: 0)
                break
            }
            guard may(call.session, .describe, topic: name) else {
                response.topics.append(Topic(errorCode: .topicAuthorizationFailed, name: name))
                continue
            }
            guard let topic = log.topic(name) else {
                response.topics.append(Topic(errorCode: .unknownTopicOrPartition, name: name))
                continue
            }
            // Any number can stand there: behind the last partition there are none.
            let asked = request.cursor.map { $0.topicName == name ? max(0, $0.partitionIndex) : 0 } ?? 0
            let first = min(asked, topic.partitions)
            let end = min(topic.partitions, first + Int32(left))
            response.topics.append(
                Topic(
                    name: name,
                    topicID: KafkaUUID(topic.id),
                    isInternal: topic.isInternal,
                    partitions: (first..<end).map { number in
                        Partition(
                            partitionIndex: number,
                            leaderID: Self.nodeID,
                            leaderEpoch: Self.leaderEpoch,
                            replicaNodes: [Self.nodeID],
                            isrNodes: [Self.nodeID]
                        )
                    },
                    topicAuthorizedOperations: operations(call.session, .topic, name)
                )
            )
            left -= Int(end - first)
            if end < topic.partitions {
                response.nextCursor = DescribeTopicPartitionsResponse.Cursor(topicName: name, partitionIndex: end)
                break
            }
        }
        return response
    }

    func describeLogDirs(_ request: DescribeLogDirsRequest, _ call: Call) -> DescribeLogDirsResponse {
        typealias Result = DescribeLogDirsResponse.DescribeLogDirsResult
        guard mayOnCluster(call.session, .describe) else {
            return DescribeLogDirsResponse(errorCode: .clusterAuthorizationFailed)
        }
        let sizes = log.sizes()
        var wanted: [(String, [Int32])] = []
        if let topics = request.topics {
            wanted = topics.withoutRepeats(\.topic).map { ($0.topic, $0.partitions.withoutRepeats()) }
        } else {
            wanted = log.topics().map { ($0.name, Array(0..<$0.partitions)) }
        }
        let space = log.space()
        return DescribeLogDirsResponse(
            results: [
                Result(
                    logDir: log.path,
                    topics: wanted.map { name, partitions in
                        DescribeLogDirsResponse.DescribeLogDirsTopic(
                            name: name,
                            partitions: partitions.compactMap { number in
                                sizes[TopicPartition(topic: name, partition: number)].map { size in
                                    DescribeLogDirsResponse.DescribeLogDirsPartition(
                                        partitionIndex: number,
                                        partitionSize: size
                                    )
                                }
                            }
                        )
                    },
                    totalBytes: space?.total ?? -1,
                    usableBytes: space?.usable ?? -1
                )
            ]
        )
    }
}
