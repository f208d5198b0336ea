// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Hummingbird
import Logging
import MartletCore

/// One request, checked and decoded as far as its route says.
struct Call: Sendable {
    let route: Route
    /// Path parameters, decoded.
    let path: [String: String]
    let query: Arguments
    let headers: HTTPFields
    let body: [UInt8]
    /// Media type of the body without parameters, lower case; nil where none was sent.
    let contentType: String?
    /// The media type to answer with.
    let answerType: String
    let caller: Caller
    let requestID: String
    let logger: Logger
    let configuration: APIConfiguration

    /// The path parameter `id`.
    var id: String { path["id"] ?? "" }

    var isDryRun: Bool { query.flag("dry_run") }

    /// The list parameters.
    var listQuery: ListQuery {
        ListQuery(name: query.text("name"), limit: query.integer("limit") ?? 100, cursor: query.text("cursor"))
    }

    /// The submitted document.
    ///
    /// - Throws: `Refusal` 400 where it is not JSON or YAML.
    func document() throws -> Document {
        do {
            return try configuration.parseDocument(body, contentType)
        } catch let error as ServiceError where error.code == .invalid {
            throw Refusal(.badRequest, code: error.code.rawValue, error)
        } catch let error as JSONError {
            throw Refusal.json(error, in: body)
        }
    }

    /// The fields of a small JSON body; an absent body is an empty object where the route allows it.
    func fields() throws -> FieldReader {
        if body.isEmpty, case .json(_, isRequired: false) = route.body { return FieldReader(JSONObject()) }
        do {
            let value = try JSONValue(parsing: body)
            guard case .object(let object) = value else {
                throw ServiceError.invalid(field: "", "the body must be an object, not \(value.kind.noun)")
            }
            return FieldReader(object)
        } catch let error as JSONError {
            throw Refusal.json(error, in: body)
        }
    }
}

/// Reads the members of a small JSON object and refuses what nobody asked for.
struct FieldReader {
    private let object: JSONObject
    private var asked: [String] = []

    init(_ object: JSONObject) {
        self.object = object
    }

    mutating func string(_ name: String) throws -> String? {
        try read(name, "a string") { $0.stringValue }
    }

    mutating func integer(_ name: String) throws -> Int64? {
        try read(name, "an integer") { $0.intValue }
    }

    mutating func array(_ name: String) throws -> [JSONValue]? {
        try read(name, "an array") { $0.arrayValue }
    }

    mutating func strings(_ name: String) throws -> [String]? {
        try read(name, "a list of strings") { value in
            guard let items = value.arrayValue else { return nil }
            let texts = items.compactMap(\.stringValue)
            return texts.count == items.count ? texts : nil
        }
    }

    /// An object whose values are all strings.
    mutating func texts(_ name: String) throws -> [String: String]? {
        try read(name, "an object of strings") { value in
            guard let members = value.objectValue?.members else { return nil }
            var texts: [String: String] = [:]
            for member in members {
                guard let text = member.value.stringValue else { return nil }
                texts[member.key] = text
            }
            return texts
        }
    }

    mutating func value(_ name: String) -> JSONValue? {
        asked.append(name)
        // A JSON value can be written as nil, which would not be what is meant here.
        return object[name].flatMap { $0 == .null ? JSONValue?.none : $0 }
    }

    /// Refuses a member that was not asked for.
    func finish() throws {
        for key in object.keys where !asked.contains(key) {
            throw ServiceError.invalid(
                field: key,
                "is not a field of this request",
                fix: asked.isEmpty ? "this request takes none" : "known fields: \(asked.joined(separator: ", "))"
            )
        }
    }

    static func required<T>(_ value: T?, _ name: String) throws -> T {
        guard let value else { throw ServiceError.invalid(field: name, "is missing", fix: "add it to the body") }
        return value
    }

    private mutating func read<T>(_ name: String, _ wanted: String, _ convert: (JSONValue) -> T?) throws -> T? {
        guard let value = value(name) else { return nil }
        guard let converted = convert(value) else {
            throw ServiceError.invalid(field: name, "must be \(wanted), not \(value.kind.noun)")
        }
        return converted
    }
}
