// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Hummingbird
import MartletCore

/// The OpenAPI 3.1 document of a table of routes.
enum OpenAPIDocument {
    private typealias Member = JSONObject.Member

    static func bytes(_ routes: [Route], _ configuration: APIConfiguration) throws -> [UInt8] {
        try value(routes, configuration).bytes
    }

    static func value(_ routes: [Route], _ configuration: APIConfiguration) throws -> JSONValue {
        var paths = JSONObject()
        for route in routes {
            var operations = paths[route.path]?.objectValue ?? JSONObject()
            operations[route.method.rawValue.lowercased()] = operation(route, configuration)
            paths[route.path] = .object(operations)
        }
        var schemas = JSONObject()
        for (name, text) in OpenAPISchemas.all { schemas[name] = try JSONValue(parsing: text) }
        return object([
            ("openapi", "3.1.0"),
            (
                "info",
                object([
                    ("title", "Martlet"), ("version", .string(configuration.version)),
                    (
                        "description",
                        "A self-hosted data engine. Errors are problems (RFC 9457) that name the field and the fix."
                    ),
                    ("license", ["name": "Apache-2.0", "identifier": "Apache-2.0"]),
                ])
            ),
            ("servers", [["url": "/"]]),
            ("paths", .object(paths)),
            (
                "components",
                object([
                    ("schemas", .object(schemas)),
                    ("securitySchemes", ["bearer": ["type": "http", "scheme": "bearer"]]),
                ])
            ),
            ("security", [["bearer": []], [:]]),
        ])
    }

    private static func operation(_ route: Route, _ configuration: APIConfiguration) -> JSONValue {
        var members: [(String, JSONValue)] = [
            ("operationId", .string(route.id.replacing(" ", with: "_").replacing("-", with: "_"))),
            ("tags", [.string(route.tag)]),
            ("summary", .string(route.summary)),
        ]
        if !route.parameters.isEmpty { members.append(("parameters", .array(route.parameters.map(parameter)))) }
        if let body = requestBody(route) { members.append(("requestBody", body)) }
        members.append(("responses", responses(route)))
        if route.isOpen { members.append(("security", [])) }
        return object(members)
    }

    private static func parameter(_ parameter: Parameter) -> JSONValue {
        var schema: [(String, JSONValue)]
        switch parameter.kind {
        case .text(let max):
            schema = [("type", "string"), ("maxLength", .int(Int64(max)))]
            if parameter.place == .path { schema.append(("minLength", 1)) }
        case .integer(let range, let fallback):
            schema = [
                ("type", "integer"), ("minimum", .int(Int64(range.lowerBound))),
                ("maximum", .int(Int64(range.upperBound))),
            ]
            if let fallback { schema.append(("default", .int(Int64(fallback)))) }
        case .flag: schema = [("type", "boolean"), ("default", false)]
        case .choice(let choices, let fallback):
            schema = [("type", "string"), ("enum", .array(choices.map { .string($0) }))]
            if let fallback { schema.append(("default", .string(fallback))) }
        case .time:
            schema = [("type", "string"), ("pattern", .string(OpenAPISchemas.timePattern))]
        }
        var value = object(schema)
        if parameter.repeats { value = ["type": "array", "minItems": 1, "items": value] }
        var members: [(String, JSONValue)] = [
            ("name", .string(parameter.name)), ("in", .string(parameter.place.rawValue)),
            ("required", .bool(parameter.isRequired)), ("description", .string(parameter.about)), ("schema", value),
        ]
        if let example = parameter.example { members.append(("example", parameter.repeats ? [example] : example)) }
        return object(members)
    }

    private static func requestBody(_ route: Route) -> JSONValue? {
        let contents: [(String, JSONValue)]
        var isRequired = true
        switch route.body {
        case .none: return nil
        case .document(let schema):
            contents = [("application/json", media(schema)), ("application/yaml", media(schema))]
        case .json(let schema, let needed):
            contents = [("application/json", media(schema))]
            isRequired = needed
        case .archive:
            let binary: JSONValue = ["schema": ["type": "string", "format": "binary", "minLength": 1]]
            contents = [("application/x-tar", binary), ("application/octet-stream", binary)]
        case .otlp:
            contents = [
                ("application/json", media("OTLPRequest")),
                ("application/x-protobuf", ["schema": ["type": "string", "format": "binary"]]),
            ]
        case .records:
            isRequired = true
            contents = [("application/json", media("NewRecordList"))]
        case .events:
            isRequired = false
            contents = [
                ("application/cloudevents+json", media("CloudEvent")),
                ("application/cloudevents-batch+json", media("CloudEventBatch")),
                ("application/json", ["schema": [:]]),
                ("application/octet-stream", ["schema": ["type": "string", "format": "binary"]]),
            ]
        }
        return object([("required", .bool(isRequired)), ("content", object(contents))])
    }

    private static func responses(_ route: Route) -> JSONValue {
        var members: [(String, JSONValue)] = []
        for status in [route.status, route.otherStatus].compactMap({ $0 }).sorted() {
            var answer: [(String, JSONValue)] = [("description", .string(status == 204 ? "Done." : "Success."))]
            if status == route.otherStatus, let schema = route.otherSchema {
                answer.append(("content", object([("application/json", media(schema))])))
            } else if !route.contents.isEmpty {
                answer.append(("content", object(route.contents.map { ($0.type, $0.schema.map(media) ?? [:]) })))
            }
            members.append((String(status), object(answer)))
        }
        for status in refusals(route) {
            var problem: JSONValue = object([("application/problem+json", media("Problem"))])
            if case .otlp = route.body {
                problem = object([("application/json", media("OTLPStatus")), ("application/x-protobuf", [:])])
            }
            members.append(
                (String(status), object([("description", .string(describe(status))), ("content", problem)]))
            )
        }
        return object(members)
    }

    /// All statuses of refusal an operation may answer.
    static func refusals(_ route: Route) -> [Int] {
        var statuses: Set<Int> = [400, 405, 431, 500, 503]
        if !route.isOpen { statuses.formUnion([401, 403]) }
        if !route.contents.isEmpty, route.negotiates { statuses.insert(406) }
        if route.hasBody { statuses.formUnion([415]) }
        // A body where none belongs is too large.
        statuses.insert(413)
        statuses.formUnion(route.refusals)
        if !route.pathParameters.isEmpty { statuses.insert(404) }
        return statuses.sorted()
    }

    private static func describe(_ status: Int) -> String {
        switch status {
        case 400: "Malformed body or unusable query parameter."
        case 401: "The bearer token is missing or wrong."
        case 403: "Not allowed."
        case 404: "There is no such thing."
        case 405: "The path has no such method."
        case 406: "The answer has no form that is accepted."
        case 409: "The name is taken, something uses it, or it is not in the state for this."
        case 413: "The body is too large."
        case 415: "The body has an unusable type."
        case 422: "A field is missing, unknown or unusable."
        case 431: "The head of the request is too large."
        case 503: "It cannot be done now."
        case 504: "It took too long."
        case 507: "The disk is full."
        default: "The engine failed."
        }
    }

    private static func media(_ schema: String) -> JSONValue {
        ["schema": ["$ref": .string("#/components/schemas/\(schema)")]]
    }

    private static func object(_ members: [(String, JSONValue)]) -> JSONValue {
        .object(JSONObject(members: members.map { Member(key: $0.0, value: $0.1) }))
    }
}
