// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import MartletCore
import Topics

// Topics: created, deleted, given more partitions.
extension KafkaDoor {
    /// What "the broker's default" is written as.
    private static let brokerDefault: Int32 = -1

    func createTopics(_ request: CreateTopicsRequest, _ call: Call) async throws -> CreateTopicsResponse {
        var response = CreateTopicsResponse()
        var names: [String: Int] = [:]
        for topic in request.topics { names[topic.name, default: 0] += 1 }
        let isCreator = sees(call.session, .cluster, KafkaACL.clusterName, .create)
        for topic in request.topics where names[topic.name] != nil {
            try Task.checkCancellation()
            if names[topic.name] ?? 0 > 1 {
                names[topic.name] = nil
                response.topics.append(
                    Self.refused(topic.name, TopicRefusal(.invalidRequest, "the topic stands in the request twice"))
                )
                continue
            }
            guard isCreator || may(call.session, .create, topic: topic.name) else {
                response.topics.append(Self.refused(topic.name, .notAllowed))
                continue
            }
            var result = await create(topic, validateOnly: request.validateOnly)
            if result.errorCode == .noError, !may(call.session, .describeConfigs, topic: topic.name) {
                result.configs = nil
                result.topicConfigErrorCode = .topicAuthorizationFailed
            }
            response.topics.append(result)
        }
        return response
    }

    private func create(
        _ topic: CreateTopicsRequest.CreatableTopic,
        validateOnly: Bool
    ) async -> CreateTopicsResponse.CreatableTopicResult {
        let partitions: Int32
        switch Self.partitions(of: topic, default: configuration.partitionsDefault) {
        case .success(let number): partitions = number
        case .failure(let refusal): return Self.refused(topic.name, refusal)
        }
        let configs = Dictionary(topic.configs.map { ($0.name, $0.value) }) { $1 }
        do {
            let made = try await topics.create(
                topic.name,
                partitions: partitions,
                configs: configs,
                validateOnly: validateOnly
            )
            let set = try await validateOnly ? configs.compactMapValues { $0 } : topics.overrides(topic.name)
            return CreateTopicsResponse.CreatableTopicResult(
                name: topic.name,
                topicID: log.topic(topic.name).map { KafkaUUID($0.id) } ?? .zero,
                numPartitions: made.spec.partitions,
                replicationFactor: 1,
                configs: TopicConfig.all.map { config in
                    CreateTopicsResponse.CreatableTopicConfigs(
                        name: config.name,
                        value: set[config.name] ?? config.value,
                        configSource: ConfigSource.of(isSet: set[config.name] != nil)
                    )
                }
            )
        } catch let error as ServiceError where error.code == .invalid {
            let isConfig = error.fields.contains { configs[$0.field] != nil }
            let code: KafkaErrorCode = isConfig ? .invalidConfig : .invalidPartitions
            return Self.refused(topic.name, TopicRefusal(code, TopicRefusal(error).message))
        } catch {
            return Self.refused(topic.name, TopicRefusal(error))
        }
    }

    private static func refused(
        _ name: String,
        _ refusal: TopicRefusal
    ) -> CreateTopicsResponse.CreatableTopicResult {
        CreateTopicsResponse.CreatableTopicResult(
            name: name,
            errorCode: refusal.code,
            errorMessage: refusal.message,
            numPartitions: -1,
            replicationFactor: -1,
            configs: nil
        )
    }

    /// The number of partitions, which may be given as one broker for each.
    private static func partitions(
        of topic: CreateTopicsRequest.CreatableTopic,
        default number: Int32
    ) -> Result<Int32, TopicRefusal> {
        if !topic.assignments.isEmpty {
            guard topic.numPartitions == brokerDefault, topic.replicationFactor == Int16(brokerDefault) else {
                return .failure(
                    TopicRefusal(.invalidRequest, "give replicas or numbers, not both")
                )
            }
            let indexes = Set(topic.assignments.map(\.partitionIndex))
            guard indexes == Set(0..<Int32(topic.assignments.count)),
                topic.assignments.allSatisfy({ $0.brokerIDs == [nodeID] })
            else {
                return .failure(
                    TopicRefusal(
                        .invalidReplicationAssignment,
                        "each partition from 0 on has one replica, on broker \(nodeID)"
                    )
                )
            }
            return .success(Int32(topic.assignments.count))
        }
        guard topic.replicationFactor == 1 || topic.replicationFactor == Int16(brokerDefault) else {
            return .failure(
                TopicRefusal(
                    .invalidReplicationFactor,
                    "replication factor \(topic.replicationFactor): there is one broker, so it is 1"
                )
            )
        }
        guard topic.numPartitions == brokerDefault || topic.numPartitions > 0 else {
            return .failure(TopicRefusal(.invalidPartitions, "\(topic.numPartitions) partitions"))
        }
        return .success(topic.numPartitions == brokerDefault ? number : topic.numPartitions)
    }

    func deleteTopics(_ request: DeleteTopicsRequest, _ call: Call) async throws -> DeleteTopicsResponse {
        typealias Result = DeleteTopicsResponse.DeletableTopicResult
        let wanted =
            call.version >= 6
            ? request.topics
            : request.topicNames.map { DeleteTopicsRequest.DeleteTopicState(name: $0) }
        var response = DeleteTopicsResponse()
        for topic in wanted.withoutRepeats({ Wanted(name: $0.name, id: $0.name == nil ? $0.topicID : .zero) }) {
            try Task.checkCancellation()
            if let name = topic.name, !sees(call.session, .topic, name) {
                response.responses.append(Result(name: name, errorCode: .topicAuthorizationFailed))
                continue
            }
            guard let found = if let name = topic.name { log.topic(name) } else { log.topic(id: topic.topicID) } else {
                response.responses.append(
                    Result(
                        name: topic.name,
                        topicID: topic.topicID,
                        errorCode: topic.name == nil ? .unknownTopicId : .unknownTopicOrPartition
                    )
                )
                continue
            }
            var result = Result(name: found.name, topicID: KafkaUUID(found.id))
            guard may(call.session, .delete, topic: found.name) else {
                // Who may not see the topic is not told its name either.
                if topic.name == nil, !sees(call.session, .topic, found.name) { result.name = nil }
                result.errorCode = .topicAuthorizationFailed
                response.responses.append(result)
                continue
            }
            do {
                try await topics.delete(found.name)
            } catch {
                let refusal = TopicRefusal(error)
                result.errorCode = refusal.code
                result.errorMessage = refusal.message
            }
            response.responses.append(result)
        }
        return response
    }

    func createPartitions(_ request: CreatePartitionsRequest, _ call: Call) async throws -> CreatePartitionsResponse {
        var response = CreatePartitionsResponse()
        let repeated = request.topics.repeated(\.name)
        for topic in request.topics.withoutRepeats(\.name) {
            try Task.checkCancellation()
            var result = CreatePartitionsResponse.CreatePartitionsTopicResult(name: topic.name)
            if repeated.contains(topic.name) {
                result.errorCode = .invalidRequest
                result.errorMessage = "the topic stands in the request twice"
            } else if !may(call.session, .alter, topic: topic.name) {
                result.errorCode = .topicAuthorizationFailed
                result.errorMessage = TopicRefusal.notAllowed.message
            } else if let assignments = topic.assignments, !assignments.allSatisfy({ $0.brokerIDs == [Self.nodeID] }) {
                result.errorCode = .invalidReplicationAssignment
                result.errorMessage = "each partition has one replica, on broker \(Self.nodeID)"
            } else {
                do {
                    try await topics.addPartitions(topic.name, total: topic.count, validateOnly: request.validateOnly)
                } catch {
                    let refusal = TopicRefusal(error)
                    result.errorCode = refusal.code == .invalidRequest ? .invalidPartitions : refusal.code
                    result.errorMessage = refusal.message
                }
            }
            response.results.append(result)
        }
        return response
    }
}

/// Where a setting's value comes from, in the protocol's numbers.
enum ConfigSource {
    static let topic: Int8 = 1
    static let `static`: Int8 = 4
    static let `default`: Int8 = 5

    static func of(isSet: Bool) -> Int8 { isSet ? topic : `default` }
}
