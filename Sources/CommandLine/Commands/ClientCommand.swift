// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MartletCore

/// A command that talks to the engine, or at least follows the global options.
protocol ClientCommand: AsyncParsableCommand {
    var global: GlobalOptions { get }
    static var allowsCSV: Bool { get }
    func execute(_ client: EngineClient) async throws
}

extension ClientCommand {
    static var allowsCSV: Bool { false }

    mutating func run() async throws {
        let command = self
        try await EngineClient.with(global, allowsCSV: Self.allowsCSV) { try await command.execute($0) }
    }
}

extension CommandConfiguration {
    /// The configuration of a client command: every one has examples.
    static func client(
        _ name: String,
        _ abstract: String,
        discussion: String = "",
        examples: [String],
        aliases: [String] = []
    ) -> Self {
        let text = (discussion.isEmpty ? "" : discussion + "\n\n") + "Examples:\n"
        return Self(
            commandName: name,
            abstract: abstract,
            discussion: text + examples.map { "  " + $0 }.joined(separator: "\n"),
            aliases: aliases
        )
    }

    /// The configuration of a noun that groups commands.
    static func group(
        _ name: String,
        _ abstract: String,
        _ subcommands: [any ParsableCommand.Type],
        aliases: [String] = [],
        defaultSubcommand: (any ParsableCommand.Type)? = nil,
        discussion: String = ""
    ) -> Self {
        Self(
            commandName: name,
            abstract: abstract,
            discussion: discussion,
            subcommands: subcommands,
            defaultSubcommand: defaultSubcommand,
            aliases: aliases
        )
    }
}

/// How lists are cut.
struct ListOptions: ParsableArguments {
    @Option(name: [.short, .long], help: "Most to show; without it, all.")
    var limit: Int?

    @Option(name: [.short, .long], help: "Only names that contain this text.")
    var name: String?

    @Option(name: .long, help: "Where to go on, as the list before said.")
    var cursor: String?

    init() {}

    func validate() throws {
        if let limit, !(1...1_000_000).contains(limit) {
            throw ValidationError("--limit must be between 1 and 1000000, not \(limit).")
        }
    }
}

/// Builds the fields of a request from the options that were given.
struct FieldBuilder {
    private(set) var object = JSONObject()

    init() {}

    /// Sets a text when there is one.
    mutating func set(_ key: String, _ value: String?) {
        if let value { object[key] = .string(value) }
    }

    /// Sets a number when there is one.
    mutating func set(_ key: String, _ value: Int?) {
        if let value { object[key] = .int(Int64(value)) }
    }

    /// Sets a list when it has elements.
    mutating func set(_ key: String, list: [String]) {
        if !list.isEmpty { object[key] = .array(list.map { .string($0) }) }
    }

    /// Sets a flag when it is raised.
    mutating func set(_ key: String, flag: Bool) {
        if flag { object[key] = .bool(true) }
    }

    /// Sets an object when it has members.
    mutating func set(_ key: String, object value: JSONObject) {
        if !value.isEmpty { object[key] = .object(value) }
    }

    /// Splits values that may hold several, separated by commas.
    static func split(_ values: [String]) -> [String] {
        values.flatMap { $0.split(separator: ",").map { String($0.trimmingPrefix(while: \.isWhitespace)) } }
    }

    /// Reads `key=value` pairs; with `session`, `@FILE` reads a mapping from a file.
    ///
    /// A name that comes twice is refused; `foldsCase` says whether case makes no difference. What a file says can be replaced.
    static func pairs(
        _ values: [String],
        option: String,
        session: Session?,
        foldsCase: Bool = false
    ) throws -> JSONObject {
        var object = JSONObject()
        var seen: Set<String> = []
        for text in values {
            if let session, text.hasPrefix("@") {
                let file = try InputFile(text, session: session)
                guard case .object(let members) = try file.value() else {
                    throw CommandFailure(.refused, "\(file.name) is not a mapping of names to text")
                }
                for member in members.members {
                    object[member.key] = .string(member.value.stringValue ?? member.value.text)
                }
                continue
            }
            guard let equals = text.firstIndex(of: "="), equals > text.startIndex else {
                throw CommandFailure.usage("\(option): '\(text)' is not of the form NAME=VALUE")
            }
            let name = String(text[..<equals])
            guard seen.insert(foldsCase ? name.lowercased() : name).inserted else {
                throw CommandFailure.usage("\(option): '\(name)' is given twice", fix: "keep one of them")
            }
            object[name] = .string(String(text[text.index(after: equals)...]))
        }
        return object
    }
}
