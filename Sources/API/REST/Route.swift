// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Hummingbird
import MartletCore

/// One operation of the API: how it is called, what it answers, and the service call behind it.
///
/// The router and the OpenAPI document are both made from the one table of these.
struct Route: Sendable {
    /// What a request carries besides its head.
    enum Body: Sendable {
        case none
        /// A document in JSON or YAML that a service reads; the name is that of its schema.
        case document(String)
        /// A small JSON object the API reads itself.
        case json(String, isRequired: Bool)
        case archive
        case events
        case records
        case otlp
    }

    /// One media type of an answer, with the name of its schema where it has one.
    struct Content: Sendable {
        let type: String
        let schema: String?
    }

    let method: HTTPRequest.Method
    /// `/api/v1/views/{id}`.
    let path: String
    let id: String
    let tag: String
    let summary: String
    var parameters: [Parameter] = []
    var body = Body.none
    /// Status of success.
    var status = 200
    /// Another status of success, where there is one.
    var otherStatus: Int?
    /// Schema of the answer with that status, where it is another.
    var otherSchema: String?
    var contents: [Content]
    /// Statuses of refusal beyond those every operation has.
    var refusals: [Int] = []
    /// Whether a caller must be known.
    var isOpen = false
    /// Whether a caller who may only read may use it although it is no GET.
    var isReading = false
    /// Whether the answer's type is chosen by `Accept`, and not by a parameter.
    var negotiates = true
    /// Whether the work stops when the caller goes away; the connection is then not used again.
    var endsWithCaller = false
    /// Writes a refusal in another form than a problem: its media type and bytes, by the type of the request's body.
    var encodeRefusal: (@Sendable (ServiceError, _ contentType: String?) -> (type: String, body: [UInt8]))?
    let handle: @Sendable (Call) async throws -> Reply

    /// The path's segments; `nil` is a parameter.
    var segments: [String?] {
        path.split(separator: "/").map { $0.hasPrefix("{") ? nil : String($0) }
    }

    var pathParameters: [String] {
        path.split(separator: "/").filter { $0.hasPrefix("{") }.map { String($0.dropFirst().dropLast()) }
    }

    var hasBody: Bool {
        if case .none = body { return false }
        return true
    }

    static func json(_ schema: String) -> [Content] {
        [Content(type: "application/json", schema: schema)]
    }
}

/// What a handler answers.
enum Reply: Sendable {
    /// JSON text.
    case json([UInt8], status: HTTPResponse.Status? = nil, location: String? = nil)
    case empty
    /// Anything else.
    case response(Response)

    /// Encodes resources and their parts.
    static func encode(_ value: some Encodable, status: HTTPResponse.Status? = nil, location: String? = nil) throws
        -> Reply
    {
        .json(Array(try encoder().encode(value)), status: status, location: location)
    }

    /// Encodes with sorted keys, so that the same answer is the same text.
    static func encoder() -> JSONEncoder {
        let encoder = ResourceCoding.encoder()
        encoder.outputFormatting.insert(.sortedKeys)
        return encoder
    }

    static func value(_ value: JSONValue) -> Reply { .json(value.bytes) }
}
