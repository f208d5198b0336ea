// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Hummingbird
import MartletCore

extension Route {
    /// Every operation but the document of them.
    static func all(_ services: Services) -> [Route] {
        views(services.views) + triggers(services.triggers) + functions(services.functions)
            + pipelines(services.pipelines) + topics(services.topics) + deadLetters(services.deadLetters)
            + secrets(services.secrets) + tables(services.tables) + tableOperations(services.tables)
            + statements(services.statements) + telemetry(services.telemetry) + metrics(services.telemetry)
            + engine(services.engine) + (services.otlp.map(otlp) ?? [])
            + (services.groups.map(groups) ?? []) + (services.groupReaders.map(groupReaders) ?? [])
            + (services.records.map(records) ?? [])
            + (services.kafkaAccess.map(kafkaAccess) ?? [])
    }

    static let prefix = "/api/v1"

    /// The five operations every kind of resource has.
    ///
    /// `schema` names the answer; the bodies are `<schema>Create` and `<schema>Update`.
    static func resources<Spec: ResourceSpec>(
        _ service: some ResourceService<Spec>,
        schema: String,
        list: (@Sendable (Call) async throws -> Page<Resource<Spec>>)? = nil,
        listParameters: [Parameter] = [],
        delete: (@Sendable (Call) async throws -> Void)? = nil,
        deleteParameters: [Parameter] = []
    ) -> [Route] {
        let kind = Spec.kind.rawValue
        let noun = Spec.kind.noun
        let base = "\(prefix)/\(kind)"
        let id = Parameter.path("id", "Name, GUID or full resource name of the \(noun).", example: .string("example"))
        let removal = removal(service, base: base, parameters: [id] + deleteParameters, delete: delete)
        return changes(service, schema: schema, base: base, id: id) + [
            removal,
            Route(
                method: .get,
                path: base,
                id: "list_\(kind)",
                tag: kind,
                summary: "List \(kind), oldest first.",
                parameters: Parameter.page + listParameters,
                contents: json("\(schema)List"),
                refusals: [422]
            ) { call in
                let page = if let list { try await list(call) } else { try await service.list(call.listQuery) }
                return try Reply.page(page.items, next: page.nextCursor)
            },
            Route(
                method: .get,
                path: "\(base)/{id}",
                id: "get_\(noun)",
                tag: kind,
                summary: "Show a \(noun).",
                parameters: [id],
                contents: json(schema),
                refusals: [404]
            ) { call in
                try .encode(try await service.get(call.id))
            },
        ]
    }

    private static func changes<Spec: ResourceSpec>(
        _ service: some ResourceService<Spec>,
        schema: String,
        base: String,
        id: Parameter
    ) -> [Route] {
        let kind = Spec.kind.rawValue
        let noun = Spec.kind.noun
        return [
            Route(
                method: .post,
                path: base,
                id: "create_\(noun)",
                tag: kind,
                summary: "Make a \(noun).",
                parameters: [.dryRun],
                body: .document("\(schema)Create"),
                status: 201,
                otherStatus: 200,
                contents: json(schema),
                refusals: [404, 409, 422, 507]
            ) { call in
                let made = try await service.create(call.document(), by: call.caller, dryRun: call.isDryRun)
                if call.isDryRun { return try .encode(made, status: .ok) }
                return try .encode(made, location: "\(base)/\(PercentCoding.encode(made.name))")
            },
            Route(
                method: .put,
                path: "\(base)/{id}",
                id: "update_\(noun)",
                tag: kind,
                summary: "Change the fields the body has; the name cannot be changed.",
                parameters: [id, .dryRun],
                body: .document("\(schema)Update"),
                contents: json(schema),
                refusals: [404, 409, 422, 507]
            ) { call in
                try .encode(
                    try await service.update(call.id, call.document(), by: call.caller, dryRun: call.isDryRun)
                )
            },
        ]
    }

    private static func removal<Spec: ResourceSpec>(
        _ service: some ResourceService<Spec>,
        base: String,
        parameters: [Parameter],
        delete: (@Sendable (Call) async throws -> Void)?
    ) -> Route {
        let noun = Spec.kind.noun
        return Route(
            method: .delete,
            path: "\(base)/{id}",
            id: "delete_\(noun)",
            tag: Spec.kind.rawValue,
            summary: "Remove a \(noun); refused with the list of users while something uses it.",
            parameters: parameters,
            status: 204,
            contents: [],
            refusals: [404, 409, 422, 507]
        ) { call in
            if let delete { try await delete(call) } else { try await service.delete(call.id, by: call.caller) }
            return .empty
        }
    }
}

extension Reply {
    /// One page in the envelope all lists share.
    static func page(_ items: [some Encodable], next: String? = nil) throws -> Reply {
        let encoder = encoder()
        return page(try items.map { Array(try encoder.encode($0)) }, next: next)
    }

    /// As ``page(_:next:)``, of items that are JSON text.
    static func page(_ items: [[UInt8]], next: String? = nil) -> Reply {
        var bytes = Array(#"{"data":["#.utf8)
        for (index, item) in items.enumerated() {
            if index > 0 { bytes.append(0x2C) }
            bytes += item
        }
        bytes += Array(#"],"pagination":{"next_cursor":"#.utf8)
        JSONWriter.append(next.map { .string($0) } ?? .null, to: &bytes)
        bytes += Array(#","previous_cursor":null}}"#.utf8)
        return .json(bytes)
    }
}
