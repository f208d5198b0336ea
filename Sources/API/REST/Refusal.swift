// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Hummingbird
import MartletCore

/// An answer other than success: the status, and the problem in its body.
struct Refusal: Error {
    let status: HTTPResponse.Status
    /// The `code` member of the problem.
    let code: String
    let error: ServiceError
    var headers: [(name: String, value: String)] = []

    init(_ status: HTTPResponse.Status, code: String, _ message: String, fix: String? = nil) {
        self.status = status
        self.code = code
        error = ServiceError(.invalid, message, fix: fix)
    }

    init(_ status: HTTPResponse.Status, code: String, _ error: ServiceError) {
        self.status = status
        self.code = code
        self.error = error
    }

    /// A text that is not what its type says.
    static func malformed(_ message: String, fix: String? = nil) -> Refusal {
        Refusal(.badRequest, code: ServiceError.Code.invalid.rawValue, message, fix: fix)
    }

    /// A query parameter that is unknown or unusable.
    static func badParameter(_ name: String, _ message: String, fix: String) -> Refusal {
        let field = ServiceError.FieldError(field: name, message: message, fix: fix)
        return Refusal(
            .badRequest,
            code: ServiceError.Code.invalid.rawValue,
            ServiceError(.invalid, message, fix: fix, fields: [field])
        )
    }

    /// JSON that does not parse, with byte offset and line.
    static func json(_ error: JSONError, in bytes: [UInt8], fix: String = "correct the JSON text") -> Refusal {
        let line = 1 + bytes.prefix(error.offset).count { $0 == 0x0A }
        let message = "the body is not valid JSON: \(error.reason) at byte offset \(error.offset), line \(line)"
        let field = ServiceError.FieldError(field: "", message: error.reason, line: line)
        return Refusal(
            .badRequest,
            code: ServiceError.Code.invalid.rawValue,
            ServiceError(.invalid, message, fix: fix, fields: [field])
        )
    }

    /// What a service or the API itself threw.
    init(_ error: any Error) {
        switch error {
        case let error as Refusal: self = error
        case let error as ServiceError: self = Refusal(Self.status(error.code), code: error.code.rawValue, error)
        case is CancellationError:
            self = Refusal(
                Self.status(.unavailable),
                code: "unavailable",
                "the request was cancelled",
                fix: "try again"
            )
        default:
            self = Refusal(
                .internalServerError,
                code: ServiceError.Code.internal.rawValue,
                "something inside the engine failed",
                fix: "look for the request id in the engine's log"
            )
        }
    }

    /// The status of each kind of service failure.
    static func status(_ code: ServiceError.Code) -> HTTPResponse.Status {
        HTTPResponse.Status(code: code.httpStatus)
    }

    static func title(_ code: String) -> String {
        switch code {
        case "invalid": "The request is not valid"
        case "notFound": "There is no such thing"
        case "alreadyExists": "The name is taken"
        case "inUse": "It is in use"
        case "failedPrecondition": "It is not in the state for this"
        case "unauthenticated": "A token is needed"
        case "forbidden": "This is not allowed"
        case "tooLarge": "It is too large"
        case "unavailable": "It cannot be done now"
        case "timeout": "It took too long"
        case "storageFull": "The disk is full"
        case "storageFailed": "The disk or a file on it failed"
        case "methodNotAllowed": "The path has no such method"
        case "notAcceptable": "No acceptable form of the answer"
        case "unsupportedMediaType": "The body has an unusable type"
        default: "The engine failed"
        }
    }

    /// The problem (RFC 9457), which shares its members with every other error of the API.
    func problem(instance: String) -> JSONValue {
        var members: [JSONObject.Member] = [
            .init(key: "type", value: .string("urn:martlet:error:\(code)")),
            .init(key: "title", value: .string(Self.title(code))),
            .init(key: "status", value: .int(Int64(status.code))),
            .init(key: "detail", value: .string(error.message)),
            .init(key: "instance", value: .string(instance)),
            .init(key: "code", value: .string(code)),
        ]
        if let fix = error.fix { members.append(.init(key: "fix", value: .string(fix))) }
        let fields = error.fields.map { field in
            var entry: [JSONObject.Member] = [
                .init(key: "field", value: .string(field.field)),
                .init(key: "message", value: .string(field.message)),
            ]
            if let fix = field.fix { entry.append(.init(key: "fix", value: .string(fix))) }
            if let line = field.line { entry.append(.init(key: "line", value: .int(Int64(line)))) }
            return JSONValue.object(JSONObject(members: entry))
        }
        members.append(.init(key: "errors", value: .array(fields)))
        if let trace = error.detail { members.append(.init(key: "trace", value: .string(trace))) }
        return .object(JSONObject(members: members))
    }

    func response(requestID: String) -> Response {
        var fields = HTTPFields()
        for header in headers {
            if let name = HTTPFields.Element.Name(header.name) { fields[name] = header.value }
        }
        fields[.contentType] = "application/problem+json"
        let bytes = problem(instance: "urn:martlet:request:\(requestID)").bytes
        return Response(status: status, headers: fields, body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes)))
    }
}
