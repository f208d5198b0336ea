// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Hummingbird
import MartletCore

extension Route {
    private static let user = Parameter.path("name", "Name of the user.", example: "alice", max: 249)
    private static let rule = Parameter.path("id", "Number of the rule.", example: "1", max: 20)

    /// Who may use the Kafka door, and for what.
    static func kafkaAccess(_ service: any KafkaAccessServices) -> [Route] {
        kafkaUsers(service) + kafkaACLs(service)
    }

    private static func kafkaUsers(_ service: any KafkaAccessServices) -> [Route] {
        [
            Route(
                method: .get,
                path: "\(prefix)/kafka/users",
                id: "list_kafka_users",
                tag: "kafka",
                summary: "List users of Kafka's clients, by name.",
                contents: json("KafkaUserList")
            ) { _ in
                try .page(try await service.users())
            },
            Route(
                method: .post,
                path: "\(prefix)/kafka/users",
                id: "create_kafka_user",
                tag: "kafka",
                summary: "Make a user; the password is checked later and not kept.",
                body: .json("KafkaUserCreate", isRequired: true),
                status: 201,
                contents: json("KafkaUser"),
                refusals: [409, 422, 507]
            ) { call in
                var fields = try call.fields()
                let name = try FieldReader.required(try fields.string("name"), "name")
                let password = try FieldReader.required(try fields.string("password"), "password")
                try fields.finish()
                let made = try await service.createUser(name, password: password)
                return try .encode(made, location: "\(prefix)/kafka/users/\(PercentCoding.encode(name))")
            },
            Route(
                method: .put,
                path: "\(prefix)/kafka/users/{name}",
                id: "update_kafka_user",
                tag: "kafka",
                summary: "Give a user another password; connections with the old one end.",
                parameters: [user],
                body: .json("KafkaUserUpdate", isRequired: true),
                contents: json("KafkaUser"),
                refusals: [404, 422, 507]
            ) { call in
                var fields = try call.fields()
                let password = try FieldReader.required(try fields.string("password"), "password")
                try fields.finish()
                return try .encode(try await service.updateUser(call.path["name"] ?? "", password: password))
            },
            Route(
                method: .delete,
                path: "\(prefix)/kafka/users/{name}",
                id: "delete_kafka_user",
                tag: "kafka",
                summary: "Remove a user; its connections end.",
                parameters: [user],
                status: 204,
                contents: [],
                refusals: [404, 507]
            ) { call in
                try await service.deleteUser(call.path["name"] ?? "")
                return .empty
            },
        ]
    }

    private static func kafkaACLs(_ service: any KafkaAccessServices) -> [Route] {
        [
            Route(
                method: .get,
                path: "\(prefix)/kafka/acls",
                id: "list_kafka_acls",
                tag: "kafka",
                summary: "List access rules of the Kafka door, oldest first.",
                contents: json("KafkaACLList")
            ) { _ in
                try .page(try await service.acls())
            },
            Route(
                method: .post,
                path: "\(prefix)/kafka/acls",
                id: "create_kafka_acl",
                tag: "kafka",
                summary: "Add an access rule; one that is there already is answered as it is.",
                body: .json("KafkaACLCreate", isRequired: true),
                status: 201,
                contents: json("KafkaACL"),
                refusals: [422, 507]
            ) { call in
                var fields = try call.fields()
                return try .encode(try await service.createACL(try kafkaACL(&fields)))
            },
            Route(
                method: .delete,
                path: "\(prefix)/kafka/acls/{id}",
                id: "delete_kafka_acl",
                tag: "kafka",
                summary: "Remove an access rule.",
                parameters: [rule],
                status: 204,
                contents: [],
                refusals: [404, 422, 507]
            ) { call in
                guard let id = Int64(call.id) else {
                    throw ServiceError.invalid(field: "id", "'\(call.id.prefix(40))' is no number of a rule")
                }
                try await service.deleteACL(id)
                return .empty
            },
        ]
    }

    private static func kafkaACL(_ fields: inout FieldReader) throws -> KafkaACL {
        let type = try choice(&fields, "resource_type", as: KafkaACL.ResourceType.self)
        let operation = try choice(&fields, "operation", as: KafkaACL.Operation.self)
        let pattern = try optionalChoice(&fields, "pattern", as: KafkaACL.Pattern.self)
        let permission = try optionalChoice(&fields, "permission", as: KafkaACL.Permission.self)
        let name = try fields.string("resource_name") ?? (type == .cluster ? KafkaACL.clusterName : nil)
        let principal = try FieldReader.required(try fields.string("principal"), "principal")
        let host = try fields.string("host")
        try fields.finish()
        return KafkaACL(
            permission ?? .allow,
            principal,
            operation,
            on: type,
            try FieldReader.required(name, "resource_name"),
            pattern: pattern ?? .literal,
            host: host ?? "*"
        )
    }

    private static func choice<Choice: RawRepresentable<String> & CaseIterable>(
        _ fields: inout FieldReader,
        _ name: String,
        as type: Choice.Type
    ) throws -> Choice {
        try FieldReader.required(try optionalChoice(&fields, name, as: type), name)
    }

    private static func optionalChoice<Choice: RawRepresentable<String> & CaseIterable>(
        _ fields: inout FieldReader,
        _ name: String,
        as type: Choice.Type
    ) throws -> Choice? {
        guard let text = try fields.string(name) else { return nil }
        guard let choice = Choice(rawValue: text) else {
            throw ServiceError.invalid(
                field: name,
                "'\(text.prefix(60))' is not possible",
                fix: "use \(Choice.allCases.map(\.rawValue).joined(separator: ", "))"
            )
        }
        return choice
    }
}
