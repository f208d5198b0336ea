// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Hummingbird
import Logging
import MartletCore
import NIOCore

/// What a request needs of its connection.
struct APIContext: RequestContext {
    var coreContext: CoreRequestContextStorage
    let channel: any Channel

    init(source: ApplicationRequestContextSource) {
        coreContext = CoreRequestContextStorage(source: source)
        channel = source.channel
    }
}

/// An error after which the connection cannot be used again.
private struct LastError: Error {
    let cause: any Error
}

/// Answers every request: finds its operation, checks and decodes it, calls the service and encodes the answer.
struct RESTResponder: HTTPResponder {
    typealias Context = APIContext

    let table: RouteTable
    let configuration: APIConfiguration
    let bodies: BodyReader
    let callers: CallerCheck

    init(table: RouteTable, configuration: APIConfiguration) {
        self.table = table
        self.configuration = configuration
        bodies = BodyReader(budget: BodyBudget(limit: configuration.bodyBytesMax), configuration: configuration)
        callers = CallerCheck(configuration: configuration)
    }

    func respond(to request: Request, context: APIContext) async throws -> Response {
        let requestID = Self.requestID(request)
        var logger = context.logger
        logger[metadataKey: "request"] = "\(requestID)"
        var response: Response
        do {
            response = try await answer(request, context, requestID, logger)
        } catch {
            let last = error as? LastError
            let cause = last?.cause ?? error
            let refusal = Refusal(explained(cause))
            report(cause, refusal, request, logger)
            response = encoded(refusal, request) ?? refusal.response(requestID: requestID)
            if last != nil { response.headers[.connection] = "close" }
            closeAfterwards(request, context, &response)
        }
        if let name = HTTPFields.Element.Name("X-Request-Id") { response.headers[name] = requestID }
        if let name = HTTPFields.Element.Name("X-Content-Type-Options") { response.headers[name] = "nosniff" }
        response.headers[.cacheControl] = "no-store"
        return request.method == .head ? response.createHeadResponse() : response
    }

    /// A refusal as its route writes it; nil where that is a problem.
    private func encoded(_ refusal: Refusal, _ request: Request) -> Response? {
        // A path that cannot be matched has no form of its own.
        guard case .found(let route, _)? = try? table.match(request.method, request.uri.path),
            let encode = route.encodeRefusal
        else { return nil }
        let (type, body) = encode(refusal.error, request.headers[.contentType].map { MediaType.essence($0) })
        var response = Response(
            status: refusal.status,
            headers: [.contentType: type],
            body: ResponseBody(byteBuffer: ByteBuffer(bytes: body))
        )
        for header in refusal.headers {
            if let name = HTTPFields.Element.Name(header.name) { response.headers[name] = header.value }
        }
        return response
    }

    private func explained(_ error: any Error) -> any Error {
        if error is Refusal || error is ServiceError || error is CancellationError { return error }
        return configuration.explain(error) ?? error
    }

    private func answer(
        _ request: Request,
        _ context: APIContext,
        _ requestID: String,
        _ logger: Logger
    ) async throws -> Response {
        let (route, path) = try findForCaller(request)
        let caller = route.isOpen ? Caller(name: configuration.localCaller) : try callers.caller(request)
        try callers.checkRight(caller, route)
        for (name, value) in path {
            guard let fault = route.parameters.first(where: { $0.name == name && $0.place == .path })?.fault(value)
            else { continue }
            throw ServiceError(.notFound, "\(name): \(fault.message)", fix: fault.fix)
        }
        let query = try Arguments(query: request.uri.query ?? "", parameters: route.parameters)
        try checkHeaders(route, request)
        let answerType = try chooseAnswerType(route, request)
        let contentType = request.headers[.contentType].map { MediaType.essence($0) }.flatMap { $0.isEmpty ? nil : $0 }
        let perform = { @Sendable (source: RequestBody) async throws -> Response in
            try await bodies.withBody(
                of: request,
                from: source,
                limit: bodies.limit(route.body),
                channel: context.channel,
                weigh: { body in
                    let isCompressed = request.headers[.contentEncoding] != nil
                    return try bodies.weight(body, route.body, isCompressed: isCompressed)
                }
            ) { body in
                try checkContentType(route, contentType, body)
                let call = Call(
                    route: route,
                    path: path,
                    query: query,
                    headers: request.headers,
                    body: body,
                    contentType: contentType,
                    answerType: answerType,
                    caller: caller,
                    requestID: requestID,
                    logger: logger,
                    configuration: configuration
                )
                return Self.response(try await route.handle(call), route)
            }
        }
        guard route.endsWithCaller else { return try await perform(request.body) }
        do {
            var response = try await request.body.consumeWithCancellationOnInboundClose { try await perform($0) }
            response.headers[.connection] = "close"
            return response
        } catch {
            throw LastError(cause: error)
        }
    }

    /// The operation of a request; below /api only callers who may ask learn which paths there are.
    private func findForCaller(_ request: Request) throws -> (route: Route, path: [String: String]) {
        do {
            return try find(request)
        } catch {
            if request.uri.path.hasPrefix("/api/") { _ = try callers.caller(request) }
            throw error
        }
    }

    private func find(_ request: Request) throws -> (route: Route, path: [String: String]) {
        switch try table.match(request.method, request.uri.path) {
        case .found(let route, let path): return (route, path)
        case .wrongMethod(let allowed):
            let list = allowed.joined(separator: ", ")
            var refusal = Refusal(
                .methodNotAllowed,
                code: "methodNotAllowed",
                "\(request.method.rawValue) cannot be used on \(request.uri.path.prefix(200))",
                fix: "use \(list)"
            )
            refusal.headers = [("Allow", list)]
            throw refusal
        case .none:
            throw Refusal(
                .notFound,
                code: ServiceError.Code.notFound.rawValue,
                "there is nothing at \(request.uri.path.prefix(200))",
                fix: "see /openapi.json for what there is; paths start with /api/v1 and do not end with a slash"
            )
        }
    }

    private func checkHeaders(_ route: Route, _ request: Request) throws {
        for parameter in route.parameters where parameter.place == .header {
            guard let name = HTTPFields.Element.Name(parameter.name), let value = request.headers[name],
                let fault = parameter.fault(value)
            else { continue }
            throw Refusal.badParameter(parameter.name, "\(parameter.name): \(fault.message)", fix: fault.fix)
        }
    }

    private func chooseAnswerType(_ route: Route, _ request: Request) throws -> String {
        let offered = route.contents.map(\.type)
        guard let first = offered.first else { return "" }
        guard route.negotiates else { return first }
        guard let type = MediaType.choose(offered, accept: request.headers[.accept]) else {
            throw Refusal(
                HTTPResponse.Status(code: 406),
                code: "notAcceptable",
                "the answer cannot be given as '\((request.headers[.accept] ?? "").prefix(100))'",
                fix: "accept \(offered.joined(separator: " or "))"
            )
        }
        return type
    }

    private func checkContentType(_ route: Route, _ type: String?, _ body: [UInt8]) throws {
        let accepted: [String]
        switch route.body {
        case .none, .events: return
        case .document:
            accepted = ["application/json", "application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"]
        case .json(_, let isRequired):
            if body.isEmpty, !isRequired { return }
            accepted = ["application/json"]
        case .records: accepted = ["application/json"]
        case .otlp: accepted = [OTLPFormat.protobuf.rawValue, OTLPFormat.json.rawValue]
        case .archive: accepted = ["application/x-tar", "application/tar", "application/octet-stream"]
        }
        guard let type, !accepted.contains(type), !(type.hasSuffix("+json") && accepted.contains("application/json"))
        else { return }
        throw Refusal(
            .unsupportedMediaType,
            code: "unsupportedMediaType",
            "a body of type '\(type.prefix(100))' cannot be read here",
            fix: "send \(accepted.prefix(2).joined(separator: " or "))"
        )
    }

    private static func response(_ reply: Reply, _ route: Route) -> Response {
        switch reply {
        case .response(let response): return response
        case .empty: return Response(status: .init(code: route.status))
        case .json(let bytes, let status, let location):
            var headers: HTTPFields = [.contentType: "application/json"]
            if let location { headers[.location] = location }
            return Response(
                status: status ?? .init(code: route.status),
                headers: headers,
                body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes))
            )
        }
    }

    /// The caller's own request id where it is harmless, or a new one.
    private static func requestID(_ request: Request) -> String {
        if let name = HTTPFields.Element.Name("X-Request-Id"), let given = request.headers[name],
            (1...64).contains(given.utf8.count),
            given.utf8.allSatisfy({ byte in
                (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
                    || byte == 0x2D || byte == 0x2E || byte == 0x5F
            })
        {
            return given
        }
        return UUID().uuidString.lowercased()
    }

    private func report(_ error: any Error, _ refusal: Refusal, _ request: Request, _ logger: Logger) {
        let metadata: Logger.Metadata = [
            "method": "\(request.method.rawValue)", "path": "\(request.uri.path.prefix(300))",
            "status": "\(refusal.status.code)", "error": "\(error)",
        ]
        if refusal.status.code == 500 {
            logger.error("request failed", metadata: metadata)
        } else {
            logger.debug("request refused", metadata: metadata)
        }
    }

    /// The rest of a body that is not wanted is read for two seconds, so that the client sees the answer, and then cut off.
    private func closeAfterwards(_ request: Request, _ context: APIContext, _ response: inout Response) {
        let length = request.headers[.contentLength].flatMap { Int($0) }
        let mayHaveMore = request.headers[.transferEncoding] != nil || (length ?? 0) > 1 << 20
        guard mayHaveMore else { return }
        response.headers[.connection] = "close"
        let channel = context.channel
        channel.eventLoop.scheduleTask(in: .seconds(2)) { channel.close(promise: nil) }
    }
}
