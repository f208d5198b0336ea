// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import Hummingbird
package import Logging
import MartletCore
import NIOCore
import ServiceLifecycle
package import Workers

/// The HTTP server on a Unix socket that workers call; see docs/formats/worker-protocol.md.
package struct WorkerGateway: Service {
    private static let bodyBytesMax = 64 << 20
    private static let workerHeader = HTTPField.Name("Martlet-Worker")

    private let socketPath: String
    private let registry: WorkerRegistry
    private let services: any GatewayServices
    private let logger: Logger

    package init(socketPath: String, registry: WorkerRegistry, services: any GatewayServices, logger: Logger) {
        self.socketPath = socketPath
        self.registry = registry
        self.services = services
        self.logger = logger
    }

    package func run() async throws {
        let router = Router()
        router.post("/v1/ready") { request, _ in try await answer(request) { try await ready($0, $1) } }
        router.post("/v1/failed") { request, _ in try await answer(request) { try failed($0, $1) } }
        router.post("/v1/tables/commit") { request, _ in
            try await answer(request) { worker, body in try await services.commitTables(body, from: worker.context) }
        }
        router.post("/v1/emit") { request, _ in try await answer(request) { try await emit($0, $1) } }
        for signal in TelemetrySignal.allCases {
            router.post("/v1/\(signal.rawValue)") { request, _ in
                try await answer(request) { worker, body in
                    try services.telemetry(signal, body, from: worker.context)
                    return Array("{}".utf8)
                }
            }
        }
        var quiet = logger
        quiet.logLevel = max(logger.logLevel, .warning)
        let application = Application(
            router: router,
            configuration: ApplicationConfiguration(address: .unixDomainSocket(path: socketPath), serverName: nil),
            logger: quiet
        )
        try await application.run()
    }

    private typealias Caller = (worker: Worker, context: WorkerRegistry.Context)

    private func answer(
        _ request: Request,
        _ body: (Caller, [UInt8]) async throws -> [UInt8]?
    ) async throws -> Response {
        do {
            let caller = try authenticate(request)
            let buffer = try await request.body.collect(upTo: Self.bodyBytesMax)
            guard let bytes = try await body(caller, Array(buffer: buffer)) else { return Response(status: .noContent) }
            return Response(
                status: .ok,
                headers: [.contentType: "application/json"],
                body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes))
            )
        } catch let error as ServiceError {
            return problem(error)
        } catch let error as JSONError {
            return problem(ServiceError(.invalid, "the body is not JSON: \(error)"))
        } catch is NIOTooManyBytesError {
            return problem(
                ServiceError(
                    .tooLarge,
                    "the body is larger than \(Self.bodyBytesMax >> 20) MiB",
                    fix: "send fewer rows at once"
                )
            )
        } catch {
            logger.error("a worker's request failed", metadata: ["path": "\(request.uri.path)", "error": "\(error)"])
            return problem(ServiceError(.internal, "\(error)"))
        }
    }

    private func authenticate(_ request: Request) throws -> Caller {
        guard let name = Self.workerHeader, let id = request.headers[name],
            let authorization = request.headers[.authorization], authorization.hasPrefix("Bearer "),
            let caller = registry.authenticate(id: id, token: String(authorization.dropFirst(7)))
        else {
            throw ServiceError(
                .unauthenticated,
                "this worker is not known",
                fix: "only the engine's own workers may call the gateway"
            )
        }
        return caller
    }

    private func ready(_ caller: Caller, _ body: [UInt8]) async throws -> [UInt8]? {
        let value = try JSONValue(parsing: body)
        try await caller.worker.becameReady(
            WorkerReadiness(
                processID: Int32(truncatingIfNeeded: value["pid"]?.intValue ?? 0),
                handlerKind: value["handler"]?.stringValue ?? "sync",
                initMicros: value["init_micros"]?.intValue ?? 0
            )
        )
        return nil
    }

    private func failed(_ caller: Caller, _ body: [UInt8]) throws -> [UInt8]? {
        let value = try JSONValue(parsing: body)
        caller.worker.reportFailure(
            WorkerFailure(
                phase: value["phase"]?.stringValue ?? "runtime",
                type: value["type"]?.stringValue ?? "Error",
                message: value["message"]?.stringValue ?? "",
                traceback: value["traceback"]?.stringValue
            )
        )
        return nil
    }

    private func emit(_ caller: Caller, _ body: [UInt8]) async throws -> [UInt8] {
        var topic: String?
        var events = [CloudEvent]()
        try JSONCursor.withBytes(body) { cursor in
            try cursor.beginObject()
            while let key = try cursor.nextKey() {
                switch key {
                case "topic": topic = try cursor.readString()
                case "events": events = try CloudEvent.decodeBatch(Array(cursor.bytes(try cursor.skipValue())))
                default: _ = try cursor.skipValue()
                }
            }
            try cursor.finish()
        }
        guard let topic else {
            throw ServiceError.invalid(field: "topic", "is missing", fix: "name the topic to emit to")
        }
        let count = try await services.emit(topic: topic, events: events, from: caller.context)
        return Array("{\"count\":\(count)}".utf8)
    }

    private func problem(_ error: ServiceError) -> Response {
        let status = HTTPResponse.Status(code: error.code.httpStatus)
        let members: [JSONObject.Member] = [
            .init(key: "title", value: .string(error.code.rawValue)),
            .init(key: "status", value: .int(Int64(status.code))),
            .init(key: "detail", value: .string(error.description)),
        ]
        return Response(
            status: status,
            headers: [.contentType: "application/problem+json"],
            body: ResponseBody(byteBuffer: ByteBuffer(bytes: JSONValue.object(JSONObject(members: members)).bytes))
        )
    }
}
