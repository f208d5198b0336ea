// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import API
import Catalog
import Foundation
import MartletCore

/// A resource service over a real catalog, which reads only what these tests send.
protocol CatalogBacked: ResourceService {
    var catalog: Catalog { get }
    static var fields: [String] { get }
    static func start(_ document: JSONObject) throws -> Spec
    static func change(_ spec: inout Spec, _ document: JSONObject) throws
}

extension CatalogBacked {
    private static func object(_ document: Document) throws -> JSONObject {
        guard let object = document.value.objectValue else {
            throw ServiceError.invalid(field: "", "must be an object, not \(document.value.kind.noun)")
        }
        for key in object.keys where !(["name", "description", "tags"] + fields).contains(key) {
            throw ServiceError.invalid(
                field: key,
                "is not a field",
                fix: "known fields: \(fields)",
                line: document.lines[key]
            )
        }
        for key in ["name", "description"] {
            if let value = object[key], value.stringValue == nil, key == "name" || value != .null {
                throw ServiceError.invalid(
                    field: key,
                    "must be a string, not \(value.kind.noun)",
                    line: document.lines[key]
                )
            }
        }
        if let tags = object["tags"], tags != .null, tags.arrayValue?.allSatisfy({ $0.stringValue != nil }) != true {
            throw ServiceError.invalid(field: "tags", "must be a list of strings", line: document.lines["tags"])
        }
        return object
    }

    private static func tags(_ object: JSONObject) -> [String]? {
        object["tags"]?.arrayValue?.compactMap(\.stringValue)
    }

    func create(_ document: Document, by caller: Caller, dryRun: Bool) async throws -> Resource<Spec> {
        let object = try Self.object(document)
        guard let name = object["name"]?.stringValue else { throw ServiceError.invalid(field: "name", "is missing") }
        try ResourceName.check(name)
        var spec = try Self.start(object)
        try Self.change(&spec, object)
        let made = spec
        return try await catalog.transaction(dryRun: dryRun) { tx in
            try tx.create(
                name: name,
                description: object["description"]?.stringValue ?? "",
                tags: Self.tags(object) ?? [],
                owner: ResourceMetadata.Owner(name: caller.name),
                spec: made
            )
        }
    }

    func update(_ id: String, _ document: Document, by caller: Caller, dryRun: Bool) async throws -> Resource<Spec> {
        let object = try Self.object(document)
        return try await catalog.transaction(dryRun: dryRun) { tx in
            try tx.update(Spec.self, id) { resource in
                if let name = object["name"]?.stringValue { resource.metadata.name = name }
                if let text = object["description"]?.stringValue { resource.metadata.description = text }
                if let tags = Self.tags(object) { resource.metadata.tags = tags }
                try Self.change(&resource.spec, object)
            }
        }
    }

    func get(_ id: String) async throws -> Resource<Spec> {
        try await catalog.snapshot { try $0.get(Spec.self, id) }
    }

    func list(_ query: ListQuery) async throws -> Page<Resource<Spec>> {
        try await catalog.snapshot { try $0.list(Spec.self, query) }
    }

    func delete(_ id: String, by caller: Caller) async throws {
        try await catalog.transaction { _ = try $0.delete(Spec.self, id) }
    }

    /// The text of a field, refused where it is something else.
    static func text(_ object: JSONObject, _ key: String) throws -> String? {
        guard let value = object[key], value != .null else { return nil }
        guard let text = value.stringValue else { throw ServiceError.invalid(field: key, "must be a string") }
        return text
    }
}

struct TestViews: CatalogBacked, ViewServices {
    let catalog: Catalog
    static let fields = ["path"]

    static func start(_ document: JSONObject) throws -> ViewSpec {
        guard let path = try text(document, "path"), !path.isEmpty else {
            throw ServiceError.invalid(field: "path", "is missing")
        }
        return ViewSpec(path: path)
    }

    static func change(_ spec: inout ViewSpec, _ document: JSONObject) throws {
        guard let path = try text(document, "path") else { return }
        if path.isEmpty { throw ServiceError.invalid(field: "path", "must not be empty") }
        spec.path = path
    }

    static let element = Element(
        key: "a b/é.exr",
        sizeBytes: 3,
        modifiedAt: Date(timeIntervalSince1970: 1_775_000_000),
        tags: ["k": "v"]
    )

    func elements(_ view: String, prefix: String, limit: Int, cursor: String?) async throws -> Page<Element> {
        _ = try await get(view)
        return Page(items: Self.element.key.hasPrefix(prefix) ? [Self.element] : [], nextCursor: cursor)
    }

    func tag(_ view: String, key: String, tags: [String: String]) async throws -> Element {
        _ = try await get(view)
        var element = Self.element
        element.key = key
        element.tags = tags
        return element
    }

    func untag(_ view: String, key: String, names: [String]) async throws -> Element {
        _ = try await get(view)
        var element = Self.element
        element.key = key
        element.tags = Dictionary(names.map { ($0, "gone") }) { $1 }
        return element
    }
}

struct TestTriggers: CatalogBacked, TriggerServices {
    let catalog: Catalog
    static let fields = ["type", "topic_name", "source_bucket_name", "events", "config", "custom_extensions"]

    static func start(_ document: JSONObject) throws -> TriggerSpec {
        guard let type = try text(document, "type").flatMap({ TriggerSpec.Source(rawValue: $0) }) else {
            throw ServiceError.invalid(field: "type", "must be Element or Schedule")
        }
        return TriggerSpec(type: type, topicName: try text(document, "topic_name") ?? "default")
    }

    static func change(_ spec: inout TriggerSpec, _ document: JSONObject) throws {
        if let topic = try text(document, "topic_name") { spec.topicName = topic }
        if let view = try text(document, "source_bucket_name") { spec.sourceBucketName = view }
    }

    func nextFireTimes(_ id: String, count: Int) async throws -> [Date] {
        _ = try await get(id)
        return (1...count).map { Date(timeIntervalSince1970: 1_775_000_000 + Double($0) * 60) }
    }
}

struct TestTopics: CatalogBacked, TopicServices {
    let catalog: Catalog
    let published: EventSink
    static let fields = ["partitions", "retention_milliseconds", "retention_bytes"]

    static func start(_ document: JSONObject) throws -> TopicSpec { TopicSpec(partitions: 1) }

    static func change(_ spec: inout TopicSpec, _ document: JSONObject) throws {
        for key in ["retention_milliseconds", "retention_bytes"] {
            guard let value = document[key], value != .null else { continue }
            guard let number = value.intValue, number > 0 else {
                throw ServiceError.invalid(field: key, "must be an integer from 1")
            }
        }
        guard let value = document["partitions"] else { return }
        guard let count = value.intValue, (1...1024).contains(count) else {
            throw ServiceError.invalid(field: "partitions", "must be 1 to 1024")
        }
        spec.partitions = Int32(count)
    }

    func partitions(_ topic: String) async throws -> [PartitionStatus] {
        (0..<(try await get(topic)).spec.partitions).map {
            PartitionStatus(partition: $0, startOffset: 0, endOffset: 7)
        }
    }

    func settings(_ topic: String) async throws -> [TopicSetting] {
        _ = try await get(topic)
        return [
            TopicSetting(name: "retention.ms", value: "5000", defaultValue: "1", isSet: true, description: "How long.")
        ]
    }

    func deleteRecords(_ topic: String, partition: Int32, before offset: Int64) async throws -> Int64 {
        _ = try await get(topic)
        return min(offset, 7)
    }

    func publish(_ topic: String, events: [CloudEvent]) async throws -> Int {
        _ = try await get(topic)
        published.add(events)
        return events.count
    }
}
