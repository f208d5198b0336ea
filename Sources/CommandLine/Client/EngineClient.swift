// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore

/// What a command works with: the engine, and the ways to tell the user something.
struct EngineClient: Sendable {
    let session: Session
    let settings: Settings
    let options: GlobalOptionsSnapshot
    /// For standard output.
    let style: Style
    /// For standard error.
    let noteStyle: Style
    private let transport: Transport

    /// Opens the client of one command.
    static func with(
        _ options: GlobalOptions,
        allowsCSV: Bool = false,
        _ body: (EngineClient) async throws -> Void
    ) async throws {
        let session = try Session.current
        let settings = try Settings(
            server: options.server,
            token: options.token,
            output: options.output,
            timeout: options.timeout,
            environment: session.environment
        )
        guard allowsCSV || settings.format != .csv else {
            throw CommandFailure.usage("only sql and metrics get print CSV", fix: "use -o human, json or yaml")
        }
        let snapshot = GlobalOptionsSnapshot(dryRun: options.dryRun, verbose: options.verbose, silent: options.silent)
        try await Transport.with(server: settings.server, token: settings.token, seconds: settings.timeout) {
            transport in
            let client = EngineClient(
                session: session,
                settings: settings,
                options: snapshot,
                style: Style(for: session.output, environment: session.environment),
                noteStyle: Style(for: session.diagnostics, environment: session.environment),
                transport: transport
            )
            for (name, meant) in Settings.misspelled(session.environment) {
                try client.note("the environment variable \(name) has no effect; did you mean \(meant)?")
            }
            try await body(client)
        }
    }

    // MARK: Asking the engine

    /// Sends a request that changes nothing and returns the JSON of the answer.
    func get(_ path: [String], query: [(String, String?)] = [], base: String = "/api/v1") async throws -> JSONValue {
        try await exchange(APIRequest("GET", path, query: query, base: base))
    }

    /// Sends a request that changes something and returns the JSON of the answer; nil when `--dry-run` only printed it.
    func send(_ request: APIRequest, seconds: Double? = nil) async throws -> JSONValue? {
        if options.dryRun {
            try printDryRun(request)
            return nil
        }
        return try await exchange(request, seconds: seconds)
    }

    /// Sends a request and returns the JSON of the answer; an empty answer is null.
    ///
    /// Keys come in an order that does not change, unless that is not worth its time.
    func exchange(_ request: APIRequest, seconds: Double? = nil, isOrdered: Bool = true) async throws -> JSONValue {
        let answer = try await open(request, seconds: seconds)
        let bytes = try await transport.collect(answer, of: request)
        try logBody(bytes, mark: "<")
        guard !bytes.isEmpty else { return .null }
        // What is no JSON is refused below.
        guard CloudEvent.isJSON(answer.contentType),
            let value = try? JSONValue(parsing: bytes, keepingRepeatedKeys: true)
        else {
            throw Problem.notJSON(
                status: answer.status,
                contentType: answer.contentType,
                request: request,
                server: settings.server
            )
        }
        return isOrdered ? JSONText.ordered(value) : value
    }

    /// Sends a request and hands over the body of the answer piece by piece.
    func stream(
        _ request: APIRequest,
        seconds: Double? = nil,
        _ body: ([UInt8]) async throws -> Void
    ) async throws {
        let answer = try await open(request, seconds: seconds)
        try await transport.stream(answer, of: request, body)
    }

    private func open(_ request: APIRequest, seconds: Double?) async throws -> Transport.Answer {
        if options.verbose > 0 {
            try session.diagnostics.line("> \(request.method) \(settings.server)\(request.target)")
        }
        if let body = request.body, body.contentType != "application/x-tar" {
            try logBody(request.isSecret ? Array("(hidden)".utf8) : body.bytes, mark: ">")
        }
        let clock = ContinuousClock()
        let start = clock.now
        let answer = try await transport.send(request, seconds: seconds)
        if options.verbose > 0 {
            let time = Quantity.duration(microseconds: Int64((clock.now - start) / .microseconds(1)))
            try session.diagnostics.line("< \(answer.status) \(answer.contentType) (\(time))")
        }
        guard answer.status < 300 else {
            let bytes = try await transport.collect(answer, of: request, limit: 16 << 20)
            try logBody(bytes, mark: "<")
            throw Problem.failure(
                status: answer.status,
                contentType: answer.contentType,
                bytes: bytes,
                request: request,
                server: settings.server
            )
        }
        return answer
    }

    private func logBody(_ bytes: [UInt8], mark: String) throws {
        guard options.verbose > 1, !bytes.isEmpty else { return }
        let text = String(decoding: bytes.prefix(64 << 10), as: UTF8.self)
        for line in text.split(separator: "\n") { try session.diagnostics.line("\(mark) \(Sanitizer.clean(line))") }
    }

    private func printDryRun(_ request: APIRequest) throws {
        try session.output.line("[DRY RUN] Would send \(request.method) \(request.target)")
        guard let body = request.body else { return }
        if request.isSecret {
            try session.output.line("(body with secret values, not shown)")
        } else if body.contentType == "application/x-tar" {
            try session.output.line("(tar archive, \(Quantity.size(bytes: Int64(body.bytes.count))))")
        } else {
            let asWritten = try? JSONValue(parsing: body.bytes, keepingRepeatedKeys: true)  // YAML is read below.
            let value = try asWritten ?? YAMLText.read(body.bytes, name: "the body")
            try session.output.write(JSONText.pretty(value).utf8)
        }
    }

    // MARK: Telling the user

    /// Whether standard output is for people.
    var isHuman: Bool { settings.format == .human }

    /// Width that human output must fit; nil when it is piped.
    var width: Int? { session.output.columns }

    /// Prints a result: as JSON or YAML, or for people as `human` makes it.
    func print(_ value: @autoclosure () throws -> JSONValue, human: () throws -> String) throws {
        switch settings.format {
        case .json: try session.output.write(JSONText.pretty(value()).utf8)
        case .yaml: try session.output.write(YAMLText.write(value()).utf8)
        case .human, .csv: try session.output.write(human().utf8)
        }
    }

    /// Prints that something was done; with `--silent` nothing for people.
    func confirm(_ value: JSONValue, human: () throws -> String) throws {
        if options.silent, isHuman { return }
        try print(value, human: human)
    }

    /// Says something on standard error that is neither result nor error.
    func note(_ text: String) throws {
        guard !options.silent else { return }
        try session.diagnostics.line("\(noteStyle.yellow("note:")) \(Sanitizer.clean(text))")
    }

    /// Notes each option that was given but means nothing here.
    func noteUnused(_ options: [(name: String, isGiven: Bool, reason: String)]) throws {
        for option in options where option.isGiven { try note("\(option.name) has no effect: \(option.reason)") }
    }
}

/// The global flags a running command looks at.
struct GlobalOptionsSnapshot: Sendable, Equatable {
    var dryRun: Bool
    var verbose: Int
    var silent: Bool
}
