// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import API
import Catalog
import Documents
import Foundation
import Identity
import MartletCore
import Synchronization

/// Keeps the events that were published.
final class EventSink: Sendable {
    private let events = Mutex<[CloudEvent]>([])

    func add(_ new: [CloudEvent]) {
        events.withLock { $0 = Array(($0 + new).suffix(1000)) }
    }

    func take() -> [CloudEvent] {
        events.withLock { events in
            defer { events = [] }
            return events
        }
    }
}

/// Answers with what it was called with.
struct TestOTLP: OTLPServices {
    func receive(
        _ signal: TelemetrySignal,
        _ body: [UInt8],
        format: OTLPFormat,
        contentEncoding: String?
    ) -> OTLPAnswer {
        let text = "\(signal) \(body.count) \(format.rawValue) \(contentEncoding ?? "plain")"
        return OTLPAnswer(status: body.isEmpty ? 503 : 200, body: Array(text.utf8), retryAfter: body.isEmpty ? 7 : nil)
    }

    func refusal(_ error: ServiceError, format: OTLPFormat) -> [UInt8] {
        Array("\(error.code.rawValue) \(format.rawValue)".utf8)
    }
}

struct TestFunctions: CatalogBacked, FunctionServices {
    let catalog: Catalog
    static let fields = [
        "artifact_source", "image_tag", "handler", "runtime", "publish", "revision_alias", "revision_description",
        "default_revision_number",
    ]

    static func start(_ document: JSONObject) throws -> FunctionSpec { FunctionSpec() }
    static func change(_ spec: inout FunctionSpec, _ document: JSONObject) throws {}

    static let bundle = BundleDescription(
        digest: String(repeating: "ab", count: 32),
        name: "f",
        tag: "latest",
        handler: "main.py",
        sizeBytes: 12,
        pythonVersion: "3.11.2",
        environmentDigest: "e",
        environmentCached: true,
        unchanged: false
    )

    func build(
        archive: [UInt8],
        name: String,
        tag: String,
        handler: String,
        pythonVersion: String?,
        clearCache: Bool
    ) -> AsyncThrowingStream<BuildProgress, any Error> {
        AsyncThrowingStream { continuation in
            let python = pythonVersion.map { " on Python \($0)" } ?? ""
            continuation.yield(
                .line("\(archive.count) bytes of \(name):\(tag), \(handler)\(python)\(clearCache ? ", anew" : "")")
            )
            if name == "broken" {
                continuation.finish(
                    throwing: ServiceError(.invalid, "main.py: SyntaxError", fix: "correct line 3", detail: "Traceback")
                )
            } else {
                continuation.yield(.done(Self.bundle))
                continuation.finish()
            }
        }
    }

    func bundles(_ query: ListQuery) async throws -> Page<BundleDescription> { Page(items: [Self.bundle]) }

    func revisions(_ function: String) async throws -> [Resource<FunctionRevisionSpec>] {
        [Self.revision(of: try await get(function), 1)]
    }

    func revision(_ function: String, _ revision: String?) async throws -> Resource<FunctionRevisionSpec> {
        let owner = try await get(function)
        guard let number = Int(revision ?? "1"), (1...9).contains(number) else {
            throw ServiceError.notFound(.functionRevisions, "\(function)@\(revision ?? "default")")
        }
        return Self.revision(of: owner, number)
    }

    func publish(_ function: String, revision: Int, by caller: Caller) async throws -> Resource<FunctionRevisionSpec> {
        Self.revision(of: try await get(function), revision)
    }

    private static func revision(of function: Resource<FunctionSpec>, _ number: Int) -> Resource<FunctionRevisionSpec> {
        var metadata = function.metadata
        metadata.name = "\(function.name)@\(number)"
        let spec = FunctionRevisionSpec(
            functionName: function.name,
            functionGuid: function.guid,
            revisionNumber: number,
            bundleDigest: bundle.digest,
            artifactSource: "f",
            imageTag: "latest",
            handler: "main.py",
            isPublished: true
        )
        return Resource(metadata: metadata, spec: spec)
    }
}

struct TestPipelines: CatalogBacked, PipelineServices {
    let catalog: Catalog
    static let fields = ["manifest"]

    static func start(_ document: JSONObject) throws -> PipelineSpec { PipelineSpec() }

    static func change(_ spec: inout PipelineSpec, _ document: JSONObject) throws {
        if let manifest = document["manifest"], manifest.objectValue == nil {
            throw ServiceError.invalid(field: "manifest", "must be an object")
        }
    }

    func delete(_ pipeline: String, tables: Bool, by caller: Caller) async throws {
        // A name the catalog does not have shows in a test whether the flag arrived.
        try await delete(tables ? "\(pipeline)-with-tables" : pipeline, by: caller)
    }

    func revisions(_ pipeline: String) async throws -> [Resource<PipelineRevisionSpec>] {
        [try await manifest(pipeline, deployed: false)]
    }

    func manifest(_ pipeline: String, deployed: Bool) async throws -> Resource<PipelineRevisionSpec> {
        let owner = try await get(pipeline)
        if deployed { throw ServiceError(.failedPrecondition, "'\(pipeline)' is not deployed") }
        var manifest = PipelineManifest()
        manifest.triggers = [.init(name: "t", trigger: "on-frame")]
        manifest.functionDeployments = [.init(name: "f", function: "inspector")]
        manifest.links = [.init(source: ["t"], destination: ["f"])]
        return Resource(
            metadata: owner.metadata,
            spec: PipelineRevisionSpec(
                pipelineName: owner.name,
                pipelineGuid: owner.guid,
                revisionNumber: 1,
                manifest: manifest
            )
        )
    }

    private func set(_ pipeline: String, _ status: PipelineSpec.Status) async throws -> Resource<PipelineSpec> {
        try await catalog.pipelines.update(pipeline) { $0.spec.status = status }
    }

    func deploy(_ pipeline: String, revision: Int?, by caller: Caller) async throws -> Resource<PipelineSpec> {
        try await catalog.pipelines.update(pipeline) {
            $0.spec.status = .ready
            $0.spec.deployedRevisionNumber = revision ?? 1
        }
    }

    func undeploy(_ pipeline: String, by caller: Caller) async throws -> Resource<PipelineSpec> {
        try await set(pipeline, .draft)
    }
    func pause(_ pipeline: String, by caller: Caller) async throws -> Resource<PipelineSpec> {
        try await set(pipeline, .paused)
    }
    func resume(_ pipeline: String, by caller: Caller) async throws -> Resource<PipelineSpec> {
        try await set(pipeline, .ready)
    }

    func replay(_ pipeline: String, from start: ReplayStart, by caller: Caller) async throws -> Int64 {
        _ = try await get(pipeline)
        return if case .offset(let offset) = start { offset } else { 5 }
    }

    func deployments(_ pipeline: String) async throws -> [DeploymentStatus] {
        _ = try await get(pipeline)
        return [DeploymentStatus(name: "f", function: "inspector", revision: 1)]
    }
}

struct TestDeadLetters: DeadLetterServices {
    static let letter = DeadLetter(
        id: "0-17",
        at: Date(timeIntervalSince1970: 1_775_000_000),
        pipeline: "p",
        deployment: "f",
        error: "boom",
        errorType: "ValueError",
        traceback: "Traceback",
        attempts: 4,
        originTopic: "default",
        originPartition: 2,
        originOffset: 33,
        traceID: nil,
        event: CloudEvent(
            id: "1",
            source: "s",
            type: "t",
            extensions: [.init("elementpath", "a/b")],
            data: Array(#"{"n":1.50}"#.utf8)
        ),
        redriven: false
    )

    func list(pipeline: String?, limit: Int, cursor: String?) async throws -> Page<DeadLetter> {
        Page(items: [Self.letter])
    }

    func get(_ id: String) async throws -> DeadLetter {
        guard id == Self.letter.id else { throw ServiceError(.notFound, "no dead letter '\(id)'") }
        return Self.letter
    }

    func redrive(ids: [String], pipeline: String?, by caller: Caller) async throws -> Int { max(ids.count, 1) }
}

struct TestTelemetry: TelemetryServices {
    func logs(_ query: LogQuery) async throws -> Page<LogRecord> {
        let record = LogRecord(
            time: query.since ?? Date(timeIntervalSince1970: 1_775_000_000),
            severity: query.severity ?? "INFO",
            scope: query.scope ?? "user",
            message: query.contains ?? "hello",
            attributes: ["aKey_b": "v"]
        )
        return Page(items: Array(repeating: record, count: min(query.limit, 2)), nextCursor: "c1")
    }

    func traces(_ query: TraceQuery) async throws -> [TraceSummary] {
        [
            TraceSummary(
                traceId: "t",
                start: Date(timeIntervalSince1970: 1_775_000_000),
                durationMicros: 5,
                status: query.status ?? "OK",
                pipeline: query.pipeline,
                functions: ["f"],
                eventId: query.eventID,
                eventType: query.eventType,
                spans: 1,
                depth: 1
            )
        ]
    }

    func trace(_ traceID: String) async throws -> (spans: [SpanRecord], logs: [LogRecord]) {
        guard traceID.count == 32 else { throw ServiceError(.notFound, "no trace '\(traceID)'") }
        return (
            [SpanRecord(traceId: traceID, spanId: "s", name: "n", startMicros: 1, durationMicros: 2)],
            try await logs(LogQuery(limit: 1)).items
        )
    }
}

extension TestTelemetry {
    func metricNames(_ query: MetricNameQuery) async throws -> [MetricName] {
        [
            MetricName(
                name: query.search ?? "m",
                type: query.type ?? "Counter",
                unit: "",
                description: "",
                series: 1,
                lastSeen: nil
            )
        ]
    }

    func metrics(_ query: MetricQuery) async throws -> MetricAnswer {
        let start = query.since ?? Date(timeIntervalSince1970: 1_775_000_000)
        let series = query.names.map { name in
            MetricAnswer.Series(
                name: name,
                type: "Counter",
                unit: "",
                aggregation: query.aggregation?.rawValue ?? "sum",
                group: Dictionary(query.groupBy.map { ($0, "g") }) { first, _ in first },
                total: nil,
                count: 0,
                points: [.init(time: start, value: nil, count: 0), .init(time: start, value: 2.5, count: 1)]
            )
        }
        return MetricAnswer(
            since: start,
            end: query.end ?? start.addingTimeInterval(60),
            stepSeconds: 60,
            groupBy: query.groupBy,
            series: series,
            missing: [],
            groupsLeftOut: (query.topK ?? 0) + (query.bottomK ?? 0) * 100 + query.maxPoints * 10_000
        )
    }

    func exposition(_ form: MetricExposition) async throws -> [UInt8] {
        switch form {
        case .prometheus: Array("# TYPE a gauge\na 1\n".utf8)
        case .openMetrics: Array("# TYPE a gauge\na 1\n# EOF\n".utf8)
        }
    }
}

struct TestEngine: EngineServices {
    var obstaclesNow: [String] = []

    func status() async -> EngineStatus {
        EngineStatus(
            version: "0.1.0",
            duckdbVersion: "v1.5",
            startedAt: Date(timeIntervalSince1970: 1_775_000_000),
            dataDirectory: "/data",
            damage: [.init(what: "topic t, partition 0, offset 5", path: "/data/x.log", message: "bad checksum")]
        )
    }

    func obstacles() async -> [String] { obstaclesNow }
}

/// All services of one test over a catalog in a directory of its own.
final class TestServices: Sendable {
    let directory: String
    let catalog: Catalog
    let published = EventSink()
    let services: Services

    init(obstacles: [String] = []) async throws {
        directory =
            FileManager.default.temporaryDirectory.appendingPathComponent("martlet-api-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        catalog = try Catalog.open(path: directory + "/catalog.sqlite")
        let store = try await SecretStore(catalog: catalog, keyPath: directory + "/secret.key")
        let access = KafkaAccessStore(catalog: catalog, secrets: store)
        let rules = try await AccessControl(store: access, isEnabled: false, metrics: MetricRegistry())
        let owner = ResourceMetadata.Owner(name: "engine")
        _ = try await catalog.topics.create(
            name: "default",
            owner: owner,
            spec: TopicSpec(partitions: 2, isDefault: true)
        )
        services = Services(
            views: TestViews(catalog: catalog),
            triggers: TestTriggers(catalog: catalog),
            functions: TestFunctions(catalog: catalog),
            pipelines: TestPipelines(catalog: catalog),
            topics: TestTopics(catalog: catalog, published: published),
            secrets: SecretService(catalog: catalog, store: store),
            deadLetters: TestDeadLetters(),
            tables: TestTables(catalog: catalog),
            statements: TestStatements(),
            telemetry: TestTelemetry(),
            engine: TestEngine(obstaclesNow: obstacles),
            otlp: TestOTLP(),
            groups: TestGroups(),
            records: TestRecords(),
            kafkaAccess: KafkaAccessService(users: KafkaUsers(store: access), access: rules)
        )
    }

    deinit {
        try? catalog.close()  // Nothing depends on it any more.
        try? FileManager.default.removeItem(atPath: directory)  // Only a leftover in the temporary folder.
    }

    static func configuration() -> APIConfiguration {
        var configuration = APIConfiguration { try DocumentParser.parse($0, contentType: $1) }
        configuration.port = 0
        return configuration
    }
}
