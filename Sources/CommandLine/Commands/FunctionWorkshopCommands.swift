// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import MartletCore

struct InitFunctionGroup: AsyncParsableCommand {
    static let configuration = CommandConfiguration.group(
        "init",
        "Make the folder of a new function.",
        [InitPythonFunction.self],
        discussion: "Example:\n  martlet functions init python-pip hello"
    )
}

struct InitPythonFunction: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "python-pip",
        "Make the folder of a new Python function.",
        examples: [
            "martlet functions init python-pip hello", "martlet functions init python-pip hello -t ~/work -H app.py",
        ],
        aliases: ["python"]
    )

    @Argument(help: "Name of the function and of its folder.") var name: String
    @Option(name: [.short, .long], help: "Folder to make it in.", completion: .directory) var target = "."
    @Option(
        name: [.customShort("H"), .customLong("handlers"), .customLong("handler")],
        help: "File with init and handler."
    )
    var handlers = "main.py"
    @Flag(name: .long, help: "Write into a folder that has files already.") var force = false
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        try ServiceErrorBridge.run { try ResourceName.check(name) }
        let base = (target as NSString).expandingTildeInPath
        let folder = base == "." ? name : "\(base)/\(name)"
        if client.options.dryRun {
            return try client.session.output.line("[DRY RUN] Would make \(folder) with \(handlers)")
        }
        let files = try ServiceErrorBridge.run {
            try client.session.workshop.scaffold(name: name, folder: folder, handler: handlers, force: force)
        }
        let made: JSONValue = [
            "name": .string(name), "folder": .string(folder), "files": .array(files.map { .string($0) }),
        ]
        try client.confirm(made) {
            "Function folder made: \(Sanitizer.clean(folder))\n"
                + files.map { "  " + Sanitizer.clean($0) + "\n" }.joined()
        }
        try client.note("next: martlet functions build \(name)")
    }
}

/// Turns errors of services used in this process into failures with exit codes.
enum ServiceErrorBridge {
    static func run<R>(_ body: () throws -> R) throws -> R {
        do { return try body() } catch let error as ServiceError { throw CommandFailure(error) }
    }

    static func run<R>(_ body: () async throws -> R) async throws -> R {
        do { return try await body() } catch let error as ServiceError { throw CommandFailure(error) }
    }
}

/// Finds the folder of a function.
enum FunctionFolder {
    /// The first of `target`, `target/name` that has the handler; `target` when none has.
    static func find(name: String?, target: String?, handler: String) throws -> String {
        let base = ((target ?? ".") as NSString).expandingTildeInPath
        var candidates = [base]
        if let name {
            let inner = base == "." ? name : base + "/" + name
            candidates = target == nil ? [inner, base] : [base, inner]
        }
        for folder in candidates where FileManager.default.fileExists(atPath: folder + "/" + handler) { return folder }
        throw CommandFailure(
            .notFound,
            "no \(handler) in \(candidates.joined(separator: " or "))",
            fix:
                "name the folder with --target and the file with --handlers, or make one with: functions init python-pip"
        )
    }
}

struct BuildFunction: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "build",
        "Build a function's folder into a bundle of the engine.",
        discussion:
            "The folder is ./NAME, or --target. What the build says goes to standard error, the bundle to standard output.",
        examples: [
            "martlet functions build hello",
            "martlet functions build exr-inspector -t examples/exr-inspector -T v2 --clear-cache",
        ]
    )

    @Argument(help: "Name of the bundle.") var name: String
    @Option(name: [.short, .long], help: "Folder of the function.", completion: .directory) var target: String?
    @Option(
        name: [.customShort("H"), .customLong("handlers"), .customLong("handler")],
        help: "File with init and handler."
    )
    var handlers = "main.py"
    @Option(name: [.customShort("T"), .long], help: "Tag of the bundle.") var imageTag = "latest"
    @Flag(name: .long, help: "Make the Python environment anew.") var clearCache = false
    @Flag(name: .long, help: "Also write the build's lines to NAME-build.log.") var saveBuildLog = false
    @Option(name: [.customShort("V"), .long], help: "Python version such as 3.12; the engine's setting unless given.")
    var version: String?
    @Option(name: [.customShort("P"), .long], help: "Accepted, without effect.") var pullPolicy: String?
    @Flag(name: .long, help: "Accepted, without effect.") var push = false
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        try client.noteUnused([
            ("--pull-policy", pullPolicy != nil, "no image is pulled"),
            ("--push", push, "bundles live in the engine"),
        ])
        let folder = try FunctionFolder.find(name: name, target: target, handler: handlers)
        let archive = try ServiceErrorBridge.run { try client.session.workshop.archive(folder: folder) }
        let request = APIRequest(
            "POST",
            ["bundles"],
            query: [
                ("name", name), ("tag", imageTag), ("handler", handlers), ("python_version", version),
                ("clear_cache", clearCache ? "true" : nil),
            ],
            body: .init(bytes: archive, contentType: "application/x-tar"),
            accept: "application/x-ndjson"
        )
        guard !client.options.dryRun else {
            _ = try await client.send(request)
            return
        }
        var log = BuildLog(client: client)
        try log.show("Detected language: python")
        try log.show("Building \(name):\(imageTag)")
        try log.show("App Path: \(folder)")
        try log.show("Handlers File: \(handlers)")
        try log.show("[Started]")
        let clock = ContinuousClock()
        let start = clock.now
        defer { if saveBuildLog { log.save(to: "\(name)-build.log") } }
        let bundle = try await receive(request, client: client, log: &log)
        try log.show("[Completed]")
        let time = Quantity.duration(microseconds: Int64((clock.now - start) / .microseconds(1)))
        try client.confirm(bundle) { describe(bundle, time: time, style: client.style) }
    }

    private func receive(_ request: APIRequest, client: EngineClient, log: inout BuildLog) async throws -> JSONValue {
        var lines = LineSplitter()
        var bundle: JSONValue?
        var shown: [String] = []
        try await client.stream(request, seconds: max(3600, client.settings.timeout)) { bytes in
            for line in lines.add(bytes) {
                guard let value = try? JSONValue(parsing: line) else {  // Refused right here.
                    throw CommandFailure(.failure, "the engine's build answer is not newline-delimited JSON")
                }
                if let text = value["line"]?.stringValue { shown.append(text) }
                if let done = value["bundle"] { bundle = JSONText.ordered(done) }
                if let error = value["error"] {
                    shown.append("[Failed]")
                    for text in shown { try log.show(text) }
                    throw Problem.failure(error, status: 422)
                }
            }
            for text in shown { try log.show(text) }
            shown.removeAll()
        }
        guard let bundle else {
            throw CommandFailure(
                .failure,
                "the build's answer ended before the build did",
                fix: "look at the engine's own log"
            )
        }
        return bundle
    }

    private func describe(_ bundle: JSONValue, time: String, style: Style) -> String {
        var list = FieldList()
        list.add("Digest", bundle["digest"]?.stringValue)
        list.add("Handler", bundle["handler"]?.stringValue)
        list.add("Size", (bundle["size_bytes"]?.intValue).map { Quantity.size(bytes: $0) })
        list.add("Python", bundle["python_version"]?.stringValue)
        list.add("Environment", bundle["environment_cached"]?.boolValue == true ? "cached" : "made")
        if bundle["unchanged"]?.boolValue == true { list.add("Unchanged", "yes") }
        return "Build completed: \(style.bold("\(name):\(imageTag)")) in \(time)\n" + list.text(style: style)
    }
}

/// What a build said, shown as it comes and kept.
private struct BuildLog {
    let client: EngineClient
    private var lines: [String] = []

    init(client: EngineClient) { self.client = client }

    mutating func show(_ line: String) throws {
        lines.append(line)
        if !client.options.silent { try client.session.diagnostics.line(Sanitizer.clean(line)) }
    }

    func save(to path: String) {
        do {
            try Data((lines.joined(separator: "\n") + "\n").utf8).write(to: URL(fileURLWithPath: path))
        } catch {
            try? client.note("cannot write \(path): \(error.localizedDescription)")  // The build itself is what counts.
        }
    }
}

struct LocalRunFunction: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "localrun",
        "Run a function's folder on this machine, without pipeline.",
        discussion: """
            Serves CloudEvents on the port until interrupted. --config names a YAML file with 'envs' and 'secrets'; \
            config.yaml of the folder is used when there is one. Send events with: martlet functions invoke
            """,
        examples: [
            "martlet functions localrun hello", "martlet functions localrun hello -c config.yaml -l DEBUG -p 8081",
        ]
    )

    @Argument(help: "Name of the function; the folder is ./NAME.") var name: String?
    @Option(name: [.short, .long], help: "File with envs and secrets.", completion: .file()) var config: String?
    @Flag(name: [.short, .long], help: "Go on in the background.") var detach = false
    @Option(name: [.short, .long], help: "Folder of the function.", completion: .directory) var target: String?
    @Option(
        name: [.customShort("H"), .customLong("handlers"), .customLong("handler")],
        help: "File with init and handler."
    )
    var handlers = "main.py"
    @Option(
        name: [.customShort("l"), .customLong("loglevel"), .customLong("log-level")],
        help: "Lowest level of log lines.",
        completion: .list(["NOTSET", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])
    )
    var logLevel = "INFO"
    @Option(name: [.short, .long], help: "Port on loopback.") var port = 8080
    @Option(name: [.customShort("T"), .long], help: "Accepted, without effect.") var imageTag: String?
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func validate() throws {
        guard (1...65_535).contains(port) else {
            throw ValidationError("--port must be between 1 and 65535, not \(port).")
        }
        guard ["NOTSET", "DEBUG", "INFO", "WARNING", "WARN", "ERROR", "CRITICAL"].contains(logLevel.uppercased()) else {
            throw ValidationError("--loglevel '\(logLevel)' is none of NOTSET, DEBUG, INFO, WARNING, ERROR, CRITICAL.")
        }
    }

    func execute(_ client: EngineClient) async throws {
        try client.noteUnused([("--image-tag", imageTag != nil, "the folder itself is run")])
        let folder = try FunctionFolder.find(name: name, target: target, handler: handlers)
        let fallback = folder + "/config.yaml"
        let settings = config ?? (FileManager.default.fileExists(atPath: fallback) ? fallback : nil)
        let whole = URL(fileURLWithPath: folder).standardizedFileURL
        let run = LocalRun(
            name: name ?? whole.lastPathComponent,
            folder: folder,
            handler: handlers,
            config: settings,
            port: port,
            logLevel: logLevel.uppercased() == "WARN" ? "WARNING" : logLevel.uppercased(),
            detach: detach
        )
        if client.options.dryRun {
            return try client.session.output.line("[DRY RUN] Would run \(folder)/\(handlers) on port \(port)")
        }
        let code = try await ServiceErrorBridge.run { try await client.session.workshop.localRun(run) }
        if code != 0 {
            throw CommandFailure(
                .failure,
                "the function ended with exit code \(code)",
                fix: "its own messages are above"
            )
        }
    }
}
