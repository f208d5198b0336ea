// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MartletCore

struct KafkaCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration.group(
        "kafka",
        "Who may use the Kafka door, and for what.",
        [KafkaUsersCommand.self, KafkaACLsCommand.self]
    )
    init() {}
}

struct KafkaUsersCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration.group(
        "users",
        "Users whom Kafka's clients log in as, with PLAIN or SCRAM.",
        [CreateKafkaUser.self, ListKafkaUsers.self, UpdateKafkaUser.self, DeleteKafkaUsers.self],
        aliases: ["user"]
    )
    init() {}
}

/// How users are shown.
private enum KafkaUserDisplay {
    static let resource = ResourceDisplay(
        kind: "kafka/users",
        noun: "Kafka user",
        columns: [
            .key("User", "name"), .key("Mechanisms", "mechanisms", isFlexible: true),
            .key("Iterations", "iterations", isRight: true), ResourceDisplay.updated,
        ],
        details: [.key("Mechanisms", "mechanisms"), .key("Iterations", "iterations")]
    )
}

/// Where a password comes from; never an argument, which other users of the machine could see.
struct PasswordInput: ParsableArguments {
    @Option(
        name: .long,
        help: "File whose first line is the password; - is standard input. Without it, a terminal is asked.",
        completion: .file()
    )
    var passwordFile: String?

    init() {}

    func read(_ session: Session, user: String) throws -> String {
        if let passwordFile {
            return try Self.line(try InputFile(passwordFile, session: session))
        }
        guard session.inputIsTerminal else {
            return try Self.line(InputFile(name: "standard input", bytes: try session.readInput(limit: 1 << 16)))
        }
        let password = try HiddenInput.ask("Password of \(user): ", session)
        guard try HiddenInput.ask("Once more: ", session) == password else {
            throw CommandFailure(.refused, "the two passwords are not the same")
        }
        return password
    }

    private static func line(_ file: InputFile) throws -> String {
        let line = file.bytes.prefix { $0 != 0x0A }
        let bytes = line.last == 0x0D ? line.dropLast() : line
        guard let password = String(validating: bytes, as: UTF8.self), !password.isEmpty else {
            throw CommandFailure(
                .refused,
                "the first line of \(file.name) is no password",
                fix: "write the password there"
            )
        }
        return password
    }
}

struct CreateKafkaUser: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "create",
        "Make a user, for PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512.",
        discussion: "The engine keeps what checks the password, not the password.",
        examples: [
            "martlet kafka users create alice", "martlet kafka users create alice --password-file alice.txt",
            "openssl rand -base64 24 | tee alice.txt | martlet kafka users create alice",
        ]
    )
    @Argument(help: "Name of the user.") var name: String
    @OptionGroup var password: PasswordInput
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        var fields = FieldBuilder()
        fields.set("name", name)
        fields.set("password", try password.read(client.session, user: name))
        var request = APIRequest("POST", ["kafka", "users"], body: .json(.object(fields.object)))
        request.isSecret = true
        guard let item = try await client.send(request) else { return }
        try client.confirm(item) { client.confirmation(KafkaUserDisplay.resource, item, verb: "created") }
    }
}

struct ListKafkaUsers: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "list",
        "List users.",
        examples: ["martlet kafka users list", "martlet kafka users list -o json"],
        aliases: ["ls"]
    )
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        let items = EngineClient.items(try await client.get(["kafka", "users"]))
        try client.printList(items, next: nil, noun: "Kafka user") { KafkaUserDisplay.resource.table(items) }
    }
}

struct UpdateKafkaUser: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "update",
        "Give a user another password.",
        discussion: "Connections that logged in with the old one end at their next request.",
        examples: ["martlet kafka users update alice", "martlet kafka users update alice --password-file new.txt"]
    )
    @Argument(help: "Name of the user.", completion: .custom(ResourceNames.complete("kafka/users"))) var name: String
    @OptionGroup var password: PasswordInput
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        var fields = FieldBuilder()
        fields.set("password", try password.read(client.session, user: name))
        var request = APIRequest("PUT", ["kafka", "users", name], body: .json(.object(fields.object)))
        request.isSecret = true
        guard let item = try await client.send(request) else { return }
        try client.confirm(item) { client.confirmation(KafkaUserDisplay.resource, item, verb: "updated") }
    }
}

struct DeleteKafkaUsers: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "delete",
        "Remove users; their connections end at their next request.",
        discussion: "Access rules that name them stay. Asks first.",
        examples: ["martlet kafka users delete alice", "martlet kafka users delete --force alice bob"],
        aliases: ["rm"]
    )
    @Argument(help: "Names of users.", completion: .custom(ResourceNames.complete("kafka/users"))) var names: [String]
    @OptionGroup var confirmation: Confirmation
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        try await client.delete(KafkaUserDisplay.resource, names, confirmation)
    }
}

struct KafkaACLsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration.group(
        "acls",
        "Access rules: which user may do what with which topics, groups and transactional ids.",
        [CreateKafkaACLs.self, ListKafkaACLs.self, DeleteKafkaACLs.self],
        aliases: ["acl"],
        discussion:
            "Rules count where the engine runs with kafka.acls.enabled: true; then what no rule allows is refused."
    )
    init() {}
}

/// How rules are shown.
private enum KafkaACLDisplay {
    static let resource = ResourceDisplay(
        kind: "kafka/acls",
        noun: "access rule",
        columns: [
            .key("ID", "id", isRight: true), .key("Permission", "permission"), .key("Principal", "principal"),
            .key("Operation", "operation"), .key("Resource", "resource_type"),
            .key("Name", "resource_name", isFlexible: true), .key("Pattern", "pattern"), .key("Host", "host"),
        ],
        details: []
    )
}

struct CreateKafkaACLs: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "create",
        "Add access rules: one for each operation and resource that is named.",
        discussion: """
            A rule that denies wins over rules that allow. Read, write, delete and alter bring describe with them. \
            Consumers need read on the topic and on their group, producers write on the topic, transactional ones write \
            on their transactional id too.
            """,
        examples: [
            "martlet kafka acls create --user alice --operation write --topic frames",
            "martlet kafka acls create --user bob --operation read --topic frames --group reports",
            "martlet kafka acls create --user carol --operation write --topic tmp- --prefixed",
            "martlet kafka acls create --user carol --operation write --transactional-id job-1",
            "martlet kafka acls create --user '*' --operation read --topic secret --deny",
            "martlet kafka acls create --user admin --operation alter --operation create --cluster",
        ]
    )
    @Option(name: .long, help: "Name of a user, or * for everybody; repeatable.") var user: [String] = []
    @Option(name: .long, help: "As --user, in the form User:NAME.") var principal: [String] = []
    @Option(
        name: .long,
        help: """
            all, read, write, create, delete, alter, describe, cluster-action, describe-configs, alter-configs or \
            idempotent-write; repeatable.
            """,
        completion: .list(KafkaACL.Operation.allCases.map(\.rawValue))
    )
    var operation: [String]
    @Option(
        name: .long,
        help: "A topic, or * for all; repeatable.",
        completion: .custom(ResourceNames.complete("topics"))
    )
    var topic: [String] = []
    @Option(name: .long, help: "A consumer group; repeatable.", completion: .custom(ResourceNames.complete("groups")))
    var group: [String] = []
    @Option(name: .long, help: "A transactional id; repeatable.") var transactionalId: [String] = []
    @Flag(name: .long, help: "The engine as a whole: making topics, rules, users.") var cluster = false
    @Flag(name: .long, help: "Names are the beginnings of names.") var prefixed = false
    @Option(name: .long, help: "Only from this IP address.") var host: String?
    @Flag(name: .long, help: "Deny instead of allow.") var deny = false
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func validate() throws {
        if user.isEmpty && principal.isEmpty { throw ValidationError("Give --user or --principal.") }
        if topic.isEmpty && group.isEmpty && transactionalId.isEmpty && !cluster {
            throw ValidationError("Give --topic, --group, --transactional-id or --cluster.")
        }
        if operation.isEmpty { throw ValidationError("Give --operation.") }
    }

    func execute(_ client: EngineClient) async throws {
        var resources = topic.map { ("topic", $0) } + group.map { ("group", $0) }
        resources += transactionalId.map { ("transactional-id", $0) }
        var made: [JSONValue] = []
        for principal in user.map({ "User:\($0)" }) + principal {
            for operation in operation {
                for (type, name) in resources {
                    made += try await create(client, principal, operation, type, name)
                }
                if cluster { made += try await create(client, principal, operation, "cluster", nil) }
            }
        }
        guard !made.isEmpty else { return }
        try client.confirm(["data": .array(made)]) {
            KafkaACLDisplay.resource.table(made).text(width: client.width, style: client.style)
        }
    }

    private func create(
        _ client: EngineClient,
        _ principal: String,
        _ operation: String,
        _ type: String,
        _ name: String?
    ) async throws -> [JSONValue] {
        var fields = FieldBuilder()
        fields.set("principal", principal)
        fields.set("operation", operation)
        fields.set("resource_type", type)
        fields.set("resource_name", name)
        if prefixed, name != nil { fields.set("pattern", "prefixed") }
        fields.set("host", host)
        if deny { fields.set("permission", "deny") }
        let request = APIRequest("POST", ["kafka", "acls"], body: .json(.object(fields.object)))
        return try await client.send(request).map { [$0] } ?? []
    }
}

struct ListKafkaACLs: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "list",
        "List access rules, oldest first.",
        examples: [
            "martlet kafka acls list", "martlet kafka acls list --user alice", "martlet kafka acls list -o json",
        ],
        aliases: ["ls"]
    )
    @Option(name: .long, help: "Only rules of this user.") var user: String?
    @Option(name: .long, help: "Only rules with this name of a topic, group or transactional id.") var name: String?
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        let items = EngineClient.items(try await client.get(["kafka", "acls"])).filter { item in
            (user.map { item["principal"]?.stringValue == "User:\($0)" } ?? true)
                && (name.map { item["resource_name"]?.stringValue == $0 } ?? true)
        }
        try client.printList(items, next: nil, noun: "access rule") { KafkaACLDisplay.resource.table(items) }
    }
}

struct DeleteKafkaACLs: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "delete",
        "Remove access rules.",
        discussion: "'martlet kafka acls list' shows their numbers. Asks first.",
        examples: ["martlet kafka acls delete 3", "martlet kafka acls delete --force 3 4"],
        aliases: ["rm"]
    )
    @Argument(help: "Numbers of rules.", completion: .custom(ResourceNames.complete("kafka/acls"))) var ids: [String]
    @OptionGroup var confirmation: Confirmation
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        try await client.delete(KafkaACLDisplay.resource, ids, confirmation)
    }
}
