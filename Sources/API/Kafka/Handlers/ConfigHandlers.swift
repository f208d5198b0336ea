// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import MartletCore
import Topics

// Settings of topics, and what there is to say of the broker's.
extension KafkaDoor {
    private enum ResourceType {
        static let topic: Int8 = 2
        static let broker: Int8 = 4
    }

    /// What has settings.
    private struct Resource: Hashable {
        let type: Int8
        let name: String
    }

    private enum Operation {
        static let set: Int8 = 0
        static let delete: Int8 = 1
        static let append: Int8 = 2
        static let subtract: Int8 = 3
    }

    func describeConfigs(_ request: DescribeConfigsRequest, _ call: Call) async -> DescribeConfigsResponse {
        var response = DescribeConfigsResponse()
        for resource in request.resources.withoutRepeats({ Resource(type: $0.resourceType, name: $0.resourceName) }) {
            var result = DescribeConfigsResponse.DescribeConfigsResult(
                resourceType: resource.resourceType,
                resourceName: resource.resourceName
            )
            do {
                try check(resource.resourceType, resource.resourceName, .describeConfigs, call)
                let entries = try await entries(resource.resourceType, resource.resourceName, request)
                let wanted = resource.configurationKeys.map(Set.init)
                // Before version 1 of the request, no keys meant all.
                result.configs = entries.filter { wanted?.contains($0.name) ?? true }
            } catch {
                let refusal = TopicRefusal(error)
                result.errorCode = refusal.code
                result.errorMessage = refusal.message
            }
            response.results.append(result)
        }
        return response
    }

    private func entries(
        _ type: Int8,
        _ name: String,
        _ request: DescribeConfigsRequest
    ) async throws -> [DescribeConfigsResponse.DescribeConfigsResourceResult] {
        switch type {
        case ResourceType.topic:
            let set = try await topics.overrides(name)
            return TopicConfig.all.map { Self.entry($0, set[$0.name], request) }
        case ResourceType.broker:
            guard name.isEmpty || name == "\(Self.nodeID)" else {
                throw ServiceError.invalid(field: "broker", "there is no broker '\(name)', only \(Self.nodeID)")
            }
            return brokerEntries()
        default:
            throw ServiceError.invalid(field: "resource", "type \(type) has no settings here")
        }
    }

    private static func entry(
        _ config: TopicConfig,
        _ value: String?,
        _ request: DescribeConfigsRequest
    ) -> DescribeConfigsResponse.DescribeConfigsResourceResult {
        typealias Synonym = DescribeConfigsResponse.DescribeConfigsSynonym
        var synonyms: [Synonym] = []
        if request.includeSynonyms {
            if let value { synonyms.append(Synonym(name: config.name, value: value, source: ConfigSource.topic)) }
            synonyms.append(Synonym(name: config.name, value: config.value, source: ConfigSource.default))
        }
        return DescribeConfigsResponse.DescribeConfigsResourceResult(
            name: config.name,
            value: value ?? config.value,
            readOnly: false,
            configSource: ConfigSource.of(isSet: value != nil),
            synonyms: synonyms,
            configType: config.kind.number,
            documentation: request.includeDocumentation ? config.text : nil
        )
    }

    /// What tools ask a broker for before they do anything.
    private func brokerEntries() -> [DescribeConfigsResponse.DescribeConfigsResourceResult] {
        let values: [(String, String, TopicConfig.Kind)] = [
            ("auto.create.topics.enable", "\(configuration.createsTopics)", .boolean),
            ("broker.id", "\(Self.nodeID)", .integer(0...0)),
            ("connections.max.idle.ms", "\(configuration.idleSeconds * 1000)", .integer(0...Int64.max)),
            ("default.replication.factor", "1", .integer(1...1)),
            ("log.dirs", log.path, .text),
            ("max.connections", "\(configuration.connectionsMax)", .integer(0...Int64.max)),
            ("message.max.bytes", TopicConfig.named("max.message.bytes")?.value ?? "", .integer(0...Int64.max)),
            ("min.insync.replicas", "1", .integer(1...1)),
            ("num.partitions", "\(configuration.partitionsDefault)", .integer(1...Int64.max)),
            ("socket.request.max.bytes", "\(configuration.requestBytesMax)", .integer(0...Int64.max)),
        ]
        return values.map { name, value, kind in
            DescribeConfigsResponse.DescribeConfigsResourceResult(
                name: name,
                value: value,
                readOnly: true,
                configSource: ConfigSource.static,
                configType: kind.number
            )
        }
    }

    func alterConfigs(_ request: AlterConfigsRequest, _ call: Call) async throws -> AlterConfigsResponse {
        var response = AlterConfigsResponse()
        let repeated = request.resources.repeated { Resource(type: $0.resourceType, name: $0.resourceName) }
        for resource in request.resources.withoutRepeats({ Resource(type: $0.resourceType, name: $0.resourceName) }) {
            try Task.checkCancellation()
            let place = Resource(type: resource.resourceType, name: resource.resourceName)
            var result = AlterConfigsResponse.AlterConfigsResourceResponse(
                resourceType: resource.resourceType,
                resourceName: resource.resourceName
            )
            let wanted = resource.configs.map { ($0.name, $0.value) }
            if let refusal = await alter(
                call,
                place,
                isRepeated: repeated.contains(place),
                validateOnly: request.validateOnly,
                { set in
                    set.removeAll()
                    for (name, value) in wanted { set[name] = value }
                }
            ) {
                result.errorCode = refusal.code
                result.errorMessage = refusal.message
            }
            response.responses.append(result)
        }
        return response
    }

    func incrementalAlterConfigs(
        _ request: IncrementalAlterConfigsRequest,
        _ call: Call
    ) async throws -> IncrementalAlterConfigsResponse {
        var response = IncrementalAlterConfigsResponse()
        let repeated = request.resources.repeated { Resource(type: $0.resourceType, name: $0.resourceName) }
        for resource in request.resources.withoutRepeats({ Resource(type: $0.resourceType, name: $0.resourceName) }) {
            try Task.checkCancellation()
            let place = Resource(type: resource.resourceType, name: resource.resourceName)
            var result = IncrementalAlterConfigsResponse.AlterConfigsResourceResponse(
                resourceType: resource.resourceType,
                resourceName: resource.resourceName
            )
            let changes = resource.configs
            if let refusal = await alter(
                call,
                place,
                isRepeated: repeated.contains(place),
                validateOnly: request.validateOnly,
                { set in
                    for change in changes { try Self.apply(change, to: &set) }
                }
            ) {
                result.errorCode = refusal.code
                result.errorMessage = refusal.message
            }
            response.responses.append(result)
        }
        return response
    }

    private static func apply(
        _ change: IncrementalAlterConfigsRequest.AlterableConfig,
        to set: inout [String: String]
    ) throws {
        switch change.configOperation {
        case Operation.set: set[change.name] = change.value ?? ""
        case Operation.delete: set[change.name] = nil
        case Operation.append, Operation.subtract:
            guard let config = TopicConfig.named(change.name), case .list = config.kind else {
                throw ServiceError.invalid(field: change.name, "is no list; set it instead")
            }
            func elements(_ text: String) -> [String] {
                text.split(separator: ",").map { $0.filter { $0 != " " } }
            }
            var now = elements(set[change.name] ?? config.value)
            let given = elements(change.value ?? "")
            if change.configOperation == Operation.append {
                now += given.filter { !now.contains($0) }
            } else {
                now.removeAll { given.contains($0) }
            }
            set[change.name] = now.joined(separator: ",")
        default: throw ServiceError.invalid(field: change.name, "operation \(change.configOperation) does not exist")
        }
    }

    private func check(_ type: Int8, _ name: String, _ operation: KafkaACL.Operation, _ call: Call) throws {
        switch type {
        case ResourceType.topic:
            guard may(call.session, operation, topic: name) else { throw TopicRefusal.notAllowed }
        case ResourceType.broker:
            guard mayOnCluster(call.session, operation) else {
                throw TopicRefusal(.clusterAuthorizationFailed, TopicRefusal.notAllowed.message)
            }
        default: break
        }
    }

    private func alter(
        _ call: Call,
        _ resource: Resource,
        isRepeated: Bool,
        validateOnly: Bool,
        _ change: @escaping @Sendable (inout [String: String]) throws -> Void
    ) async -> TopicRefusal? {
        guard !isRepeated else { return TopicRefusal(.invalidRequest, "the resource stands in the request twice") }
        do {
            try check(resource.type, resource.name, .alterConfigs, call)
        } catch {
            return TopicRefusal(error)
        }
        guard resource.type == ResourceType.topic else {
            return TopicRefusal(
                .invalidRequest,
                "only settings of topics can be changed here; the engine's are in its file"
            )
        }
        do {
            try await topics.alter(resource.name, validateOnly: validateOnly, change)
            return nil
        } catch let error as ServiceError where error.code == .invalid {
            return TopicRefusal(.invalidConfig, TopicRefusal(error).message)
        } catch {
            return TopicRefusal(error)
        }
    }
}

extension TopicConfig.Kind {
    /// The protocol's number for the kind of value.
    fileprivate var number: Int8 {
        switch self {
        case .boolean: 1
        case .text, .choice: 2
        case .integer(let range): range.upperBound > Int64(Int32.max) ? 5 : 3
        case .real: 6
        case .list: 7
        }
    }
}
