// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Hummingbird
import Logging
import MartletCore
import NIOCore

extension Route {
    private static let function = Parameter.path(
        "id",
        "Name, GUID or full resource name of the function.",
        example: "exr-inspector"
    )

    static func functions(_ service: any FunctionServices) -> [Route] {
        resources(service, schema: "Function") + revisions(service) + bundles(service)
    }

    private static func revisions(_ service: any FunctionServices) -> [Route] {
        let revision = Parameter.path("rev", "Number or alias of the revision, or `default`.", example: "1", max: 128)
        return [
            Route(
                method: .get,
                path: "\(prefix)/functions/{id}/revisions",
                id: "list_function_revisions",
                tag: "functions",
                summary: "All revisions of a function, by number.",
                parameters: [function],
                contents: json("FunctionRevisionList"),
                refusals: [404]
            ) { call in
                try .page(try await service.revisions(call.id))
            },
            Route(
                method: .get,
                path: "\(prefix)/functions/{id}/revisions/{rev}",
                id: "get_function_revision",
                tag: "functions",
                summary: "Show a revision.",
                parameters: [function, revision],
                contents: json("FunctionRevision"),
                refusals: [404, 422]
            ) { call in
                try .encode(try await find(service, call))
            },
            Route(
                method: .post,
                path: "\(prefix)/functions/{id}/revisions/{rev}/publish",
                id: "publish_function_revision",
                tag: "functions",
                summary: "Publish a revision, so that pipelines may use it.",
                parameters: [function, revision],
                contents: json("FunctionRevision"),
                refusals: [404, 409, 422, 507]
            ) { call in
                let number = try await find(service, call).spec.revisionNumber
                return try .encode(try await service.publish(call.id, revision: number, by: call.caller))
            },
        ]
    }

    private static func find(_ service: any FunctionServices, _ call: Call) async throws -> Resource<
        FunctionRevisionSpec
    > {
        let revision = call.path["rev"] ?? ""
        return try await service.revision(call.id, revision == "default" ? nil : revision)
    }

    private static func bundles(_ service: any FunctionServices) -> [Route] {
        [
            Route(
                method: .get,
                path: "\(prefix)/bundles",
                id: "list_bundles",
                tag: "functions",
                summary: "List the bundles that were built.",
                parameters: Parameter.page,
                contents: json("BundleList"),
                refusals: [422]
            ) { call in
                let page = try await service.bundles(call.listQuery)
                return try .page(page.items, next: page.nextCursor)
            },
            Route(
                method: .post,
                path: "\(prefix)/bundles",
                id: "build_bundle",
                tag: "functions",
                summary:
                    "Build a function's folder; the answer is a stream of lines that ends with the bundle or an error.",
                parameters: [
                    .query("name", .text(max: 128), "Name of the bundle.", isRequired: true, example: "exr-inspector"),
                    .query("tag", .text(max: 128), "Tag of the bundle; `latest` unless given.", example: "latest"),
                    .query("handler", .text(max: 255), "Handler file; `main.py` unless given.", example: "main.py"),
                    .query(
                        "python_version",
                        .text(max: 32),
                        "Python version, as far as it matters; the engine's setting unless given.",
                        example: "3.12"
                    ),
                    .query("clear_cache", .flag, "Build the environment anew."),
                ],
                body: .archive,
                contents: [Content(type: "application/x-ndjson", schema: "BuildLine")],
                refusals: [409, 422, 507]
            ) { call in
                let name = call.query.text("name") ?? ""
                try ResourceName.check(name)
                guard !call.body.isEmpty else {
                    throw ServiceError(
                        .invalid,
                        "the archive is missing",
                        fix: "send a tar archive of the function's folder as the body"
                    )
                }
                let progress = service.build(
                    archive: call.body,
                    name: name,
                    tag: call.query.text("tag") ?? "latest",
                    handler: call.query.text("handler") ?? "main.py",
                    pythonVersion: call.query.text("python_version"),
                    clearCache: call.query.flag("clear_cache")
                )
                return .response(stream(progress, call))
            },
        ]
    }

    /// One JSON object a line: the build's output, then the bundle or the problem.
    private static func stream(_ progress: AsyncThrowingStream<BuildProgress, any Error>, _ call: Call) -> Response {
        let requestID = call.requestID
        let logger = call.logger
        let body = ResponseBody { writer in
            do {
                for try await step in progress {
                    try await writer.write(ByteBuffer(bytes: line(step)))
                }
            } catch let error as ChannelError {
                throw error
            } catch {
                let refusal = Refusal(error)
                if refusal.status.code == 500 { logger.error("build failed", metadata: ["error": "\(error)"]) }
                let problem = refusal.problem(instance: "urn:martlet:request:\(requestID)")
                try await writer.write(
                    ByteBuffer(
                        bytes: JSONValue.object(JSONObject(members: [.init(key: "error", value: problem)])).bytes + [
                            0x0A
                        ]
                    )
                )
            }
            try await writer.finish(nil)
        }
        return Response(status: .ok, headers: [.contentType: "application/x-ndjson"], body: body)
    }

    private static func line(_ step: BuildProgress) throws -> [UInt8] {
        switch step {
        case .line(let text):
            JSONValue.object(JSONObject(members: [.init(key: "line", value: .string(text))])).bytes + [0x0A]
        case .done(let bundle):
            Array(#"{"bundle":"#.utf8) + Array(try Reply.encoder().encode(bundle)) + [0x7D, 0x0A]
        }
    }
}
