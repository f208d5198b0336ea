// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
package import GRPCCore
package import MartletCore
package import MartletProto
import SwiftProtobuf
package import Topics

/// `martlet.v1.Topics`, over the service the REST API uses.
package struct TopicsService: Martlet_V1_Topics.SimpleServiceProtocol {
    private static let caller = Caller(name: "grpc")
    private static let pageMax = 1000

    private let topics: TopicService
    private let explain: @Sendable (any Error) -> ServiceError

    /// Manages topics through `topics`; `explain` turns errors into what callers are told.
    package init(topics: TopicService, explain: @escaping @Sendable (any Error) -> ServiceError) {
        self.topics = topics
        self.explain = explain
    }

    package func createTopic(
        request: Martlet_V1_CreateTopicRequest,
        context: ServerContext
    ) async throws -> Martlet_V1_Topic {
        try await explained {
            var fields = Self.fields(
                request.description_p.isEmpty ? nil : request.description_p,
                request.tags,
                request.partitions == 0 ? nil : request.partitions,
                request.hasRetentionMs ? request.retentionMs : nil,
                request.hasRetentionBytes ? request.retentionBytes : nil
            )
            fields["name"] = .string(request.name)
            let document = Document(value: .object(fields))
            if !request.configs.isEmpty {
                // Said before anything is made: settings are set by a second step.
                _ = try await topics.create(document, by: Self.caller, dryRun: true)
                let configs = request.configs.mapValues { Optional($0) }
                let partitions = max(1, request.partitions)
                try await topics.create(request.name, partitions: partitions, configs: configs, validateOnly: true)
            }
            let made = try await topics.create(document, by: Self.caller, dryRun: request.dryRun)
            guard !request.configs.isEmpty, !request.dryRun else {
                return Self.topic(made, [:], request.dryRun ? nil : try await topics.partitions(made.guid))
            }
            try await set(request.configs, of: made.name)
            return try await get(made.name)
        }
    }

    package func listTopics(
        request: Martlet_V1_ListTopicsRequest,
        context: ServerContext
    ) async throws -> Martlet_V1_ListTopicsResponse {
        try await explained {
            let size = request.pageSize == 0 ? 100 : Int(request.pageSize)
            guard (1...Self.pageMax).contains(size) else {
                throw ServiceError.invalid(
                    field: "page_size",
                    "\(size) is out of range",
                    fix: "use 1 to \(Self.pageMax), or leave it out"
                )
            }
            let page = try await topics.list(
                ListQuery(
                    name: request.nameContains.isEmpty ? nil : request.nameContains,
                    limit: size,
                    cursor: request.pageToken.isEmpty ? nil : request.pageToken
                )
            )
            var listed: [Martlet_V1_Topic] = []
            for topic in page.items { listed.append(Self.topic(topic, try await topics.overrides(topic.name), nil)) }
            let found = listed
            return .with {
                $0.topics = found
                $0.nextPageToken = page.nextCursor ?? ""
            }
        }
    }

    package func getTopic(
        request: Martlet_V1_GetTopicRequest,
        context: ServerContext
    ) async throws -> Martlet_V1_Topic {
        try await explained { try await get(request.name) }
    }

    package func updateTopic(
        request: Martlet_V1_UpdateTopicRequest,
        context: ServerContext
    ) async throws -> Martlet_V1_Topic {
        try await explained {
            let fields = Self.fields(
                request.hasDescription_p ? request.description_p : nil,
                request.tags,
                request.hasPartitions ? request.partitions : nil,
                request.hasRetentionMs ? request.retentionMs : nil,
                request.hasRetentionBytes ? request.retentionBytes : nil
            )
            try await set(request.configs, of: request.name, dryRun: true)
            let document = Document(value: .object(fields))
            let changed = try await topics.update(request.name, document, by: Self.caller, dryRun: request.dryRun)
            if request.dryRun { return Self.topic(changed, request.configs, nil) }
            try await set(request.configs, of: request.name)
            return try await get(request.name)
        }
    }

    package func deleteTopic(
        request: Martlet_V1_DeleteTopicRequest,
        context: ServerContext
    ) async throws -> Martlet_V1_DeleteTopicResponse {
        try await explained {
            guard !request.name.isEmpty else { throw ServiceError.invalid(field: "name", "is missing") }
            try await topics.delete(request.name, by: Self.caller)
            return Martlet_V1_DeleteTopicResponse()
        }
    }

    // MARK: Parts

    private func get(_ name: String) async throws -> Martlet_V1_Topic {
        guard !name.isEmpty else { throw ServiceError.invalid(field: "name", "is missing") }
        let topic = try await topics.get(name)
        return Self.topic(topic, try await topics.overrides(topic.name), try await topics.partitions(topic.guid))
    }

    private func set(_ configs: [String: String], of name: String, dryRun: Bool = false) async throws {
        guard !configs.isEmpty else { return }
        try await topics.alter(name, validateOnly: dryRun) { $0.merge(configs) { $1 } }
    }

    private func explained<Result: Sendable>(_ body: @Sendable () async throws -> Result) async throws -> Result {
        do { return try await body() } catch { throw RPCError(explain(error)) }
    }

    /// The fields of a topic's document that were given.
    private static func fields(
        _ description: String?,
        _ tags: [String],
        _ partitions: Int32?,
        _ retentionMilliseconds: Int64?,
        _ retentionBytes: Int64?
    ) -> JSONObject {
        var fields = JSONObject()
        if let description { fields["description"] = .string(description) }
        if !tags.isEmpty { fields["tags"] = .array(tags.map { .string($0) }) }
        if let partitions { fields["partitions"] = .int(Int64(partitions)) }
        if let retentionMilliseconds { fields["retention_ms"] = .int(retentionMilliseconds) }
        if let retentionBytes { fields["retention_bytes"] = .int(retentionBytes) }
        return fields
    }

    private static func topic(
        _ topic: Resource<TopicSpec>,
        _ configs: [String: String],
        _ partitions: [PartitionStatus]?
    ) -> Martlet_V1_Topic {
        .with {
            $0.name = topic.name
            $0.description_p = topic.metadata.description
            $0.tags = topic.metadata.tags
            $0.partitions = topic.spec.partitions
            $0.retentionMs = topic.spec.retentionMilliseconds ?? -1
            $0.retentionBytes = topic.spec.retentionBytes ?? -1
            $0.configs = configs
            $0.createdMs = Timestamp.microseconds(topic.metadata.createdAt) / 1000
            $0.updatedMs = Timestamp.microseconds(topic.metadata.updatedAt) / 1000
            $0.partitionStatus = (partitions ?? []).map { status in
                .with {
                    $0.partition = status.partition
                    $0.startOffset = status.startOffset
                    $0.endOffset = status.endOffset
                }
            }
        }
    }
}
