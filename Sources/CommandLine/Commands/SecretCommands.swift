// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import MartletCore

struct SecretsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration.group(
        "secrets",
        "Key-value pairs for functions; values go in and never come out.",
        [
            CreateSecret.self, ListCommand<SecretNoun>.self, GetCommand<SecretNoun>.self, UpdateSecret.self,
            DeleteCommand<SecretNoun>.self,
        ],
        aliases: ["secret"]
    )
    init() {}
}

/// One secret of a file, in the form `{name, entries}` the API takes.
struct SecretDocument: Sendable {
    var name: String
    var body: JSONValue
    /// The file itself, where it holds this secret in the API's form.
    var file: APIRequest.Body?

    /// What to send to create it: the file's own bytes where that is possible, so that errors name its lines.
    var request: APIRequest.Body { file ?? .json(body) }

    /// Reads both file forms; form B may hold several secrets, and may stand under `secrets:` as in config.yaml.
    static func read(_ file: InputFile) throws -> [Self] {
        guard case .object(var object) = try file.value() else {
            throw CommandFailure(.refused, "\(file.name) is not a mapping of secrets")
        }
        if let name = object["name"]?.stringValue, object["entries"] != nil {
            return [Self(name: name, body: .object(object), file: try file.body(overlaid: JSONObject()))]
        }
        if let inner = object["secrets"]?.objectValue { object = inner }
        guard !object.isEmpty else { throw CommandFailure(.refused, "\(file.name) has no secret") }
        return try object.members.map { member in
            guard let pairs = member.value.objectValue else {
                throw CommandFailure(
                    .refused,
                    "\(file.name): '\(member.key)' is not a mapping of keys to values",
                    fix: "write NAME: {KEY: VALUE}, or name: NAME with entries: [{key, value}]"
                )
            }
            return Self(name: member.key, pairs: pairs)
        }
    }

    init(name: String, body: JSONValue, file: APIRequest.Body?) {
        self.name = name
        self.body = body
        self.file = file
    }

    init(name: String, pairs: JSONObject, description: String? = nil) {
        self.name = name
        let entries = pairs.members.map { pair -> JSONValue in
            ["key": .string(pair.key), "value": .string(pair.value.stringValue ?? pair.value.text)]
        }
        var fields = FieldBuilder()
        fields.set("name", name)
        fields.set("description", description)
        var object = fields.object
        object["entries"] = .array(entries)
        body = .object(object)
    }
}

extension EngineClient {
    /// Stores the secrets of files, replacing those that exist.
    func storeSecrets(_ files: [String]) async throws {
        for path in files {
            for secret in try SecretDocument.read(try InputFile(path, session: session)) {
                let made = try await storeSecret(secret)
                if !options.dryRun { try note("secret \(secret.name) \(made ? "created" : "updated")") }
            }
        }
    }

    private func storeSecret(_ secret: SecretDocument) async throws -> Bool {
        do {
            _ = try await sendSecret("POST", ["secrets"], secret.request)
            return true
        } catch let failure as CommandFailure where failure.status == .conflict {
            _ = try await sendSecret("PUT", ["secrets", secret.name], .json(secret.body))
            return false
        }
    }

    fileprivate func sendSecret(_ method: String, _ path: [String], _ body: APIRequest.Body) async throws -> JSONValue?
    {
        var request = APIRequest(method, path, body: body)
        request.isSecret = true
        return try await send(request)
    }
}

/// Where a secret's pairs come from.
struct SecretFields: ParsableArguments {
    @Option(
        name: [.customShort("e"), .customLong("entry"), .customLong("from-literal")],
        help:
            "KEY=VALUE, or KEY=@FILE for the contents of a file; repeatable. Other users of the machine can see a VALUE."
    )
    var entry: [String] = []
    @Option(name: .long, help: "What it is for.") var description: String?
    @Option(
        name: [.customShort("f"), .customLong("from-file"), .customLong("secret-file")],
        help: "YAML or JSON file (- for standard input).",
        completion: .file()
    )
    var fromFile: String?

    func pairs(session: Session) throws -> JSONObject {
        var pairs = try FieldBuilder.pairs(entry, option: "--entry", session: nil)
        for member in pairs.members {
            guard let text = member.value.stringValue, text.hasPrefix("@") else { continue }
            let file = try InputFile(text, session: session)
            guard let contents = String(validating: file.bytes, as: UTF8.self) else {
                throw CommandFailure(.refused, "\(file.name) is not UTF-8 text")
            }
            pairs[member.key] = .string(contents)
        }
        return pairs
    }
}

struct CreateSecret: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "create",
        "Store a secret.",
        discussion: "A file is {name, entries: [{key, value}]} or {NAME: {KEY: VALUE}}, which may hold several.",
        examples: [
            "martlet secrets create vast-db -e access_key=AK -e secret_key=@key.txt",
            "martlet secrets create -f secrets.yaml",
        ]
    )

    @Argument(help: "Name of the secret.") var positionalName: String?
    @Option(name: [.short, .long], help: "Name of the secret.") var name: String?
    @OptionGroup var fields: SecretFields
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        var secrets: [SecretDocument] = []
        if let file = fields.fromFile {
            secrets = try SecretDocument.read(try InputFile(file, session: client.session))
        } else {
            guard let name = name ?? positionalName else { throw CommandFailure.usage("--name is missing") }
            let pairs = try fields.pairs(session: client.session)
            guard !pairs.isEmpty else {
                throw CommandFailure.usage("a secret needs entries", fix: "give --entry KEY=VALUE")
            }
            secrets = [SecretDocument(name: name, pairs: pairs, description: fields.description)]
        }
        for secret in secrets {
            guard let item = try await client.sendSecret("POST", ["secrets"], secret.request) else { continue }
            try client.confirm(item) { client.confirmation(SecretNoun.display, item, verb: "created") }
        }
    }
}

struct UpdateSecret: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "update",
        "Replace the entries of a secret.",
        examples: [
            "martlet secrets update vast-db -e access_key=AK -e secret_key=@key.txt",
            "martlet secrets update vast-db -f s.yaml",
        ]
    )

    @Argument(help: "Name, GUID or resource name.", completion: .custom(ResourceNames.complete("secrets"))) var id:
        String
    @OptionGroup var fields: SecretFields
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        let document: SecretDocument
        if let file = fields.fromFile {
            let found = try SecretDocument.read(try InputFile(file, session: client.session))
            guard let match = found.first(where: { $0.name == id }) ?? (found.count == 1 ? found.first : nil) else {
                throw CommandFailure(.refused, "\(file) has no secret '\(id)'")
            }
            document = match
        } else {
            let pairs = try fields.pairs(session: client.session)
            guard !pairs.isEmpty || fields.description != nil else {
                throw CommandFailure.usage("nothing to change was given", fix: "give --entry KEY=VALUE")
            }
            document = SecretDocument(name: id, pairs: pairs, description: fields.description)
        }
        var object = document.body.objectValue ?? JSONObject()
        object["name"] = nil
        if object["entries"]?.arrayValue?.isEmpty == true { object["entries"] = nil }
        let path = ["secrets", id]
        guard let item = try await client.sendSecret("PUT", path, .json(.object(object))) else { return }
        try client.confirm(item) { client.confirmation(SecretNoun.display, item, verb: "updated") }
    }
}
