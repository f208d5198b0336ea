// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import MartletCore

struct ConfigCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration.group(
        "config",
        "The command line's own settings.",
        [InitConfig.self, SetConfig.self, UnsetConfig.self, ViewConfig.self],
        discussion: "Flags win over environment variables, those over the file, the file over defaults."
    )
    init() {}
}

/// Values for the file.
struct ConfigValues: ParsableArguments {
    @Option(name: [.customLong("server-url"), .customLong("vms-url")], help: "Address of the engine (or --server).")
    var serverURL: String?
    @Option(name: [.customLong("default-output")], help: "human, json or yaml.") var defaultOutput: OutputFormat?
    @Option(name: .long, help: "Accepted, without effect.") var tenant: String?
    @Option(name: .long, help: "Accepted, without effect.") var username: String?
    @Option(name: .long, help: "Accepted, without effect.") var password: String?
    @Option(name: [.customLong("builder-image-url")], help: "Accepted, without effect.") var builderImageURL: String?

    func noteUnused(_ client: EngineClient) throws {
        try client.noteUnused([
            ("--tenant", tenant != nil, "an engine has one tenant"),
            ("--username", username != nil, "use --token"), ("--password", password != nil, "use --token"),
            ("--builder-image-url", builderImageURL != nil, "functions need no image"),
        ])
    }

    /// Puts what was given into `file`; true when something was.
    func apply(_ global: GlobalOptions, to file: inout ConfigurationFile) throws -> Bool {
        let server = global.server ?? serverURL
        if let server {
            file["server"] = try Settings(server: server, token: nil, output: .human, timeout: nil, environment: [:])
                .server
        }
        if let token = global.token { file["token"] = token }
        if let output = defaultOutput { file["output"] = output.rawValue }
        return server != nil || global.token != nil || defaultOutput != nil
    }
}

struct InitConfig: AsyncParsableCommand {
    static let configuration = CommandConfiguration.client(
        "init",
        "Make the configuration file.",
        discussion:
            "The file is ~/.martlet/config.toml, or what MARTLET_CONFIG names, and can be read by its owner only.",
        examples: [
            "martlet config init", "martlet config init --server http://10.0.0.5:8070 --token \"$TOKEN\" --force",
        ]
    )
    @OptionGroup var values: ConfigValues
    @Flag(name: .long, help: "Replace a file that exists.") var force = false
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func run() async throws {
        let session = try Session.current
        let path = ConfigurationFile.path(environment: session.environment)
        guard force || !FileManager.default.fileExists(atPath: path) else {
            throw CommandFailure(
                .conflict,
                "\(path) exists already",
                fix: "replace it with --force, or use: martlet config set"
            )
        }
        var file = ConfigurationFile()
        if try !values.apply(global, to: &file) { file["server"] = Settings.defaultServer }
        if !global.dryRun { try file.save(environment: session.environment) }
        try await EngineClient.with(global) { client in
            try values.noteUnused(client)
            try client.confirm(["file": .string(path)]) {
                (global.dryRun ? "[DRY RUN] Would write " : "Configuration written: ") + "\(path)\n"
            }
        }
    }
}

struct SetConfig: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "set",
        "Change settings in the configuration file.",
        examples: [
            "martlet config set --server http://10.0.0.5:8070",
            "martlet config set --token \"$TOKEN\" --default-output json",
        ]
    )
    @OptionGroup var values: ConfigValues
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        try values.noteUnused(client)
        let environment = client.session.environment
        var file = try ConfigurationFile.load(environment: environment)
        guard try values.apply(global, to: &file) else {
            throw CommandFailure.usage("nothing to set was given", fix: "use --server, --token or --default-output")
        }
        if !client.options.dryRun { try file.save(environment: environment) }
        let path = ConfigurationFile.path(environment: environment)
        try client.confirm(["file": .string(path)]) {
            (client.options.dryRun ? "[DRY RUN] Would write " : "Configuration written: ") + "\(path)\n"
        }
    }
}

struct UnsetConfig: AsyncParsableCommand {
    static let configuration = CommandConfiguration.client(
        "unset",
        "Remove settings from the configuration file.",
        examples: ["martlet config unset --token", "martlet config unset --server --default-output"]
    )
    @Flag(
        name: [.customLong("server"), .customLong("server-url"), .customLong("vms-url")],
        help: "The engine's address."
    )
    var server = false
    @Flag(name: .long, help: "The token.") var token = false
    @Flag(name: [.customLong("default-output")], help: "The output format.") var defaultOutput = false
    @Flag(name: .long, help: "Accepted, without effect.") var tenant = false
    @Flag(name: .long, help: "Accepted, without effect.") var username = false
    @Flag(name: .long, help: "Accepted, without effect.") var password = false
    @Flag(name: [.customLong("builder-image-url")], help: "Accepted, without effect.") var builderImageURL = false
    @Flag(name: .long, help: "No confirmation.") var silent = false

    func run() async throws {
        let session = try Session.current
        var file = try ConfigurationFile.load(environment: session.environment)
        let keys = [("server", server), ("token", token), ("output", defaultOutput)].filter(\.1).map(\.0)
        guard !keys.isEmpty || tenant || username || password || builderImageURL else {
            throw CommandFailure.usage("nothing to unset was given", fix: "use --server, --token or --default-output")
        }
        for key in keys { file[key] = nil }
        try file.save(environment: session.environment)
        guard !silent else { return }
        try session.output.line("Configuration written: \(ConfigurationFile.path(environment: session.environment))")
    }
}

struct ViewConfig: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "view",
        "Show the settings in effect and where each comes from.",
        examples: ["martlet config view", "martlet config view -o json"],
        aliases: ["show", "list"]
    )
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        let environment = client.session.environment
        let file = try ConfigurationFile.load(environment: environment)
        func source(_ key: String, flag: Bool) -> String {
            if flag { return "flag" }
            let variable = "MARTLET_\(key.uppercased())"
            if environment[variable].nonEmpty != nil { return variable }
            return file[key].nonEmpty == nil ? "default" : "file"
        }
        let rows = [
            ("server", client.settings.server, source("server", flag: global.server != nil)),
            ("token", client.settings.token == nil ? "" : "(set)", source("token", flag: global.token != nil)),
            ("output", client.settings.format.rawValue, source("output", flag: global.output != nil)),
        ]
        let path = ConfigurationFile.path(environment: environment)
        var object = JSONObject()
        object["file"] = .string(path)
        for row in rows { object[row.0] = ["value": .string(row.1), "source": .string(row.2)] }
        try client.print(.object(object)) {
            let table = TextTable(
                columns: [.init("Setting"), .init("Value", isFlexible: true), .init("From")],
                rows: rows.map { [$0.0, $0.1.isEmpty ? "-" : $0.1, $0.2] }
            )
            return "File: \(path)\n\n" + table.text(width: client.width, style: client.style)
        }
    }
}
