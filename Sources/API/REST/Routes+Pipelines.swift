// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Hummingbird
import MartletCore

extension Route {
    private static let pipeline = Parameter.path(
        "id",
        "Name, GUID or full resource name of the pipeline.",
        example: "exr-inspection"
    )

    static func pipelines(_ service: any PipelineServices) -> [Route] {
        resources(
            service,
            schema: "Pipeline",
            delete: { call in
                try await service.delete(call.id, tables: call.query.flag("tables"), by: call.caller)
            },
            deleteParameters: [
                .query("tables", .flag, "Remove the tables its manifest declares too, with their rows.")
            ]
        ) + pipelineQueries(service) + pipelineVerbs(service)
    }

    private static func pipelineQueries(_ service: any PipelineServices) -> [Route] {
        [
            Route(
                method: .get,
                path: "\(prefix)/pipelines/{id}/manifest",
                id: "get_pipeline_manifest",
                tag: "pipelines",
                summary: "The newest manifest, or the one that runs.",
                parameters: [pipeline, .query("deployed", .flag, "The one that runs.")],
                contents: json("PipelineRevision"),
                refusals: [404, 409]
            ) { call in
                try .encode(try await service.manifest(call.id, deployed: call.query.flag("deployed")))
            },
            Route(
                method: .get,
                path: "\(prefix)/pipelines/{id}/revisions",
                id: "list_pipeline_revisions",
                tag: "pipelines",
                summary: "All manifests of a pipeline, by number.",
                parameters: [pipeline],
                contents: json("PipelineRevisionList"),
                refusals: [404]
            ) { call in
                try .page(try await service.revisions(call.id))
            },
            Route(
                method: .get,
                path: "\(prefix)/pipelines/{id}/deployments",
                id: "list_deployments",
                tag: "pipelines",
                summary: "How each function deployment of a running pipeline does.",
                parameters: [pipeline],
                contents: json("DeploymentList"),
                refusals: [404, 409]
            ) { call in
                try .page(try await service.deployments(call.id))
            },
        ]
    }

    private static func pipelineVerbs(_ service: any PipelineServices) -> [Route] {
        typealias Verb = @Sendable (String, Caller) async throws -> Resource<PipelineSpec>
        let verbs: [(String, String, Verb)] = [
            ("undeploy", "Stop a pipeline and forget where it was.", { try await service.undeploy($0, by: $1) }),
            ("pause", "Stop delivering; what arrives waits.", { try await service.pause($0, by: $1) }),
            ("resume", "Deliver again, from where it was paused.", { try await service.resume($0, by: $1) }),
        ]
        return [
            Route(
                method: .post,
                path: "\(prefix)/pipelines/{id}/deploy",
                id: "deploy_pipeline",
                tag: "pipelines",
                summary: "Roll out the newest manifest, or a numbered one.",
                parameters: [pipeline],
                body: .json("Deploy", isRequired: false),
                contents: json("Pipeline"),
                refusals: [404, 409, 422, 507]
            ) { call in
                var fields = try call.fields()
                let revision = try fields.integer("revision")
                try fields.finish()
                if let revision, revision < 1 {
                    throw ServiceError.invalid(
                        field: "revision",
                        "\(revision) is no revision",
                        fix: "revisions count from 1"
                    )
                }
                return try .encode(
                    try await service.deploy(call.id, revision: revision.map { Int($0) }, by: call.caller)
                )
            }
        ]
            + verbs.map { name, summary, verb in
                Route(
                    method: .post,
                    path: "\(prefix)/pipelines/{id}/\(name)",
                    id: "\(name)_pipeline",
                    tag: "pipelines",
                    summary: summary,
                    parameters: [pipeline],
                    body: .json("Nothing", isRequired: false),
                    contents: json("Pipeline"),
                    refusals: [404, 409, 422, 507]
                ) { call in
                    try call.fields().finish()
                    return try .encode(try await verb(call.id, call.caller))
                }
            } + [
                Route(
                    method: .post,
                    path: "\(prefix)/pipelines/{id}/replay",
                    id: "replay_pipeline",
                    tag: "pipelines",
                    summary: "Send the trigger topics' records from a time or an offset through the pipeline again.",
                    parameters: [pipeline],
                    body: .json("Replay", isRequired: true),
                    contents: json("Replayed"),
                    refusals: [404, 409, 422, 507]
                ) { call in
                    var fields = try call.fields()
                    let from = try FieldReader.required(fields.value("from"), "from")
                    try fields.finish()
                    let count = try await service.replay(call.id, from: try replayStart(from), by: call.caller)
                    return .value(["records": .int(count)])
                }
            ]
    }

    private static func replayStart(_ value: JSONValue) throws -> ReplayStart {
        if let offset = value.intValue, offset >= 0 { return .offset(offset) }
        if let text = value.stringValue, let date = TimeExpression.date(text) { return .time(date) }
        throw ServiceError.invalid(
            field: "from",
            "is neither a time nor an offset",
            fix: "write RFC 3339 (\"2026-04-08T15:41:29Z\"), a duration before now (\"2h\"), or an offset from 0"
        )
    }

    static func deadLetters(_ service: any DeadLetterServices) -> [Route] {
        [
            Route(
                method: .get,
                path: "\(prefix)/dead-letters",
                id: "list_dead_letters",
                tag: "dead-letters",
                summary: "List events that could not be processed, newest first, without their data.",
                parameters: [
                    .query("pipeline", .text(max: 300), "Keeps those of one pipeline.", example: "exr-inspection"),
                    .limit, .cursor,
                ],
                contents: json("DeadLetterList"),
                refusals: [404, 422]
            ) { call in
                let page = try await service.list(
                    pipeline: call.query.text("pipeline"),
                    limit: call.query.integer("limit") ?? 100,
                    cursor: call.query.text("cursor")
                )
                return .page(page.items.map { encode($0, withData: false) }, next: page.nextCursor)
            },
            Route(
                method: .get,
                path: "\(prefix)/dead-letters/{id}",
                id: "get_dead_letter",
                tag: "dead-letters",
                summary: "Show an event that could not be processed, with its data and the error.",
                parameters: [.path("id", "`<partition>-<offset>` in the dead-letter topic.", example: "0-17", max: 64)],
                contents: json("DeadLetter"),
                refusals: [404, 422]
            ) { call in
                .json(encode(try await service.get(call.id), withData: true))
            },
            Route(
                method: .post,
                path: "\(prefix)/dead-letters/redrive",
                id: "redrive_dead_letters",
                tag: "dead-letters",
                summary: "Put events back before the deployment that failed them: some, or all of a pipeline.",
                body: .json("Redrive", isRequired: true),
                contents: json("Redriven"),
                refusals: [404, 409, 422, 507]
            ) { call in
                var fields = try call.fields()
                let ids = try fields.strings("ids") ?? []
                let pipeline = try fields.string("pipeline")
                try fields.finish()
                guard ids.isEmpty != (pipeline == nil) else {
                    throw ServiceError.invalid(
                        field: "ids",
                        "give either ids or a pipeline",
                        fix: #"{"ids": ["0-17"]} or {"pipeline": "name"}"#
                    )
                }
                let count = try await service.redrive(ids: ids, pipeline: pipeline, by: call.caller)
                return .value(["redriven": .int(Int64(count))])
            },
        ]
    }

    private static func encode(_ letter: DeadLetter, withData: Bool) -> [UInt8] {
        func text(_ value: String?) -> JSONValue { value.map { .string($0) } ?? .null }
        let members: [JSONObject.Member] = [
            .init(key: "id", value: .string(letter.id)),
            .init(key: "at", value: .string(Timestamp.format(letter.at))),
            .init(key: "pipeline", value: .string(letter.pipeline)),
            .init(key: "deployment", value: .string(letter.deployment)),
            .init(key: "error", value: .string(letter.error)),
            .init(key: "error_type", value: .string(letter.errorType)),
            .init(key: "traceback", value: text(letter.traceback)),
            .init(key: "attempts", value: .int(Int64(letter.attempts))),
            .init(key: "origin_topic", value: .string(letter.originTopic)),
            .init(key: "origin_partition", value: .int(Int64(letter.originPartition))),
            .init(key: "origin_offset", value: .int(letter.originOffset)),
            .init(key: "trace_id", value: text(letter.traceID)),
            .init(key: "redriven", value: .bool(letter.redriven)),
            .init(key: "data_bytes", value: .int(Int64(letter.event.data?.count ?? 0))),
        ]
        var bytes = JSONValue.object(JSONObject(members: members)).bytes
        bytes.removeLast()
        bytes += Array(#","event":"#.utf8)
        var event = letter.event
        if !withData { event.data = nil }
        event.encodeStructured(into: &bytes)
        bytes.append(0x7D)
        return bytes
    }
}
