// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Documents
import MartletCore

extension PipelineManifestReader {
    /// Levels as the runtime knows them, after the names other systems use for them.
    private static let levels = ["NOTSET", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
    private static let levelSynonyms = ["WARN": "WARNING", "FATAL": "CRITICAL", "TRACE": "DEBUG"]

    static func readDeployments(
        _ body: DocumentReader,
        _ references: inout ManifestReferences
    ) -> [PipelineManifest.FunctionDeployment] {
        entries(
            body,
            "function_deployments",
            aliases: ["functions"],
            what: "a function deployment",
            shorthand: "function_vrn"
        ).map { readDeployment($0, &references) }
    }

    private static func readDeployment(
        _ entry: DocumentReader,
        _ references: inout ManifestReferences
    ) -> PipelineManifest.FunctionDeployment {
        let aliases = ["function", "vrn"]
        let function = resource(entry, "function_vrn", aliases: aliases, kind: .functions)
        if let function {
            let field = written(entry, "function_vrn", aliases)
            references.add(.functions, function, field: entry.path(of: field), line: entry.line(of: field))
        }
        var deployment = PipelineManifest.FunctionDeployment(
            name: instanceName(entry, fallback: function),
            function: function ?? "",
            revision: readRevision(entry, of: function, &references)
        )
        let config = entry.object("config", what: "the deployment's config")
        let places = [config, entry]
        for case let place? in places {
            if let level = readLevel(place) { deployment.logLevel = level }
            if let calls = place.int("worker_concurrency", in: 1...1000) { deployment.workerConcurrency = calls }
            if let idle = place.int("idle_seconds", in: 0...86_400) { deployment.idleSeconds = idle }
        }
        let resources = [
            entry.object("resources", what: "resources"),
            config?.object("resources", what: "resources"),
        ]
        deployment.resources = readResources(
            resources.compactMap(\.self),
            timeouts: [config, entry].compactMap(\.self)
        )
        deployment.environmentVariables = variables(places)
        deployment.secrets = secrets(places, &references)
        entry.ignore("guid", "id", "type")
        return deployment
    }

    private static func readRevision(
        _ entry: DocumentReader,
        of function: String?,
        _ references: inout ManifestReferences
    ) -> Int? {
        guard let (path, value) = entry.value("revision", aliases: ["revision_number", "function_revision"]) else {
            return nil
        }
        if case .string(let text) = value, ["current", "default", "latest", ""].contains(text.trimmed.lowercased()) {
            return nil
        }
        guard let number = DocumentReader.integer(value), (1...Int(Int32.max)).contains(number) else {
            entry.fail(
                at: path,
                "\(DocumentReader.show(value)) is not a revision",
                fix: "write a revision number from 1, or 'current' for the function's default revision"
            )
            return nil
        }
        if let function {
            references.add(.functions, function, revision: number, field: path, line: entry.line(at: path))
        }
        return number
    }

    private static func readLevel(_ place: DocumentReader) -> String? {
        guard let (path, value) = place.value("log_level", aliases: ["loglevel"]) else { return nil }
        let text = DocumentReader.text(value)?.trimmed.uppercased() ?? ""
        let level = levelSynonyms[text] ?? text
        if levels.contains(level) { return level }
        let near = NearestName.of(level, among: levels).map { "write \($0)" }
        place.fail(
            at: path,
            "\(DocumentReader.show(value)) is not a log level",
            fix: near ?? "write one of \(levels.joined(separator: ", "))"
        )
        return nil
    }

    private static func readResources(
        _ places: [DocumentReader],
        timeouts: [DocumentReader]
    ) -> PipelineManifest.Resources {
        var resources = PipelineManifest.Resources()
        let reading = ResourceReading(places: places)
        reading.range(
            "min_concurrency",
            "max_concurrency",
            aliases: [],
            low: &resources.minConcurrency,
            high: &resources.maxConcurrency,
            bounds: 0...1000,
            "a whole number from 0 to 1000",
            DocumentReader.integer
        )
        if resources.maxConcurrency == 0, let place = places.first {
            place.fail("max_concurrency", "0 workers could never run the function", fix: "write 1 or more")
        }
        reading.range(
            "min_cpu",
            "max_cpu",
            aliases: ["_millis"],
            low: &resources.minCpuMillis,
            high: &resources.maxCpuMillis,
            bounds: 1...1_024_000,
            "cores such as 100m, 0.5 or 2, from 1m to 1024",
            DocumentQuantity.cpuMillis
        )
        reading.range(
            "min_memory",
            "max_memory",
            aliases: ["_bytes"],
            low: &resources.minMemoryBytes,
            high: &resources.maxMemoryBytes,
            bounds: (1 << 20)...(16 << 40),
            "a size such as 128Mi or 1G, from 1Mi to 16Ti",
            DocumentQuantity.bytes
        )
        let storage = reading.value(
            ["storage", "storage_bytes"],
            in: 0...(1 << 50),
            "a size such as 0Gi or 10Gi, up to 1024Ti",
            DocumentQuantity.bytes
        )
        if let storage { resources.storageBytes = storage }
        let factor = reading.value(
            ["autoscaling_rps_factor"],
            in: 1...1_000_000,
            "a whole number from 1 to 1000000",
            DocumentReader.integer
        )
        if let factor { resources.autoscalingRpsFactor = factor }
        let timeout = ResourceReading(places: places + timeouts).value(
            ["timeout", "timeout_seconds"],
            in: 1...3600,
            "whole seconds from 1 to 3600",
            { DocumentQuantity.milliseconds($0).flatMap { $0 % 1000 == 0 ? $0 / 1000 : nil } }
        )
        if let timeout { resources.timeoutSeconds = timeout }
        return resources
    }
}

/// Reads amounts that may stand in one of several places.
private struct ResourceReading {
    let places: [DocumentReader]

    /// The amount under any of the names in any of the places; two that differ are a fault.
    func value<T: Comparable>(
        _ names: [String],
        in bounds: ClosedRange<T>,
        _ wanted: String,
        _ convert: (JSONValue) -> T?
    ) -> T? {
        var found: (value: T, path: String)?
        for place in places {
            for name in names {
                guard let (path, value) = place.value(name) else { continue }
                let isMillis = name.hasSuffix("_millis")
                guard let amount = convert(isMillis ? .string(DocumentReader.show(value) + "m") : value),
                    bounds.contains(amount)
                else {
                    place.fail(at: path, "\(DocumentReader.show(value)) is not \(wanted)", fix: "write \(wanted)")
                    continue
                }
                if let found, found.value != amount {
                    place.fail(at: path, "\(found.path) says otherwise", fix: "keep one of them")
                } else if found == nil {
                    found = (amount, path)
                }
            }
        }
        return found?.value
    }

    /// Reads a lower and an upper amount; one that is not given follows the other where its default would cross it.
    func range<T: Comparable>(
        _ lowName: String,
        _ highName: String,
        aliases suffixes: [String],
        low: inout T,
        high: inout T,
        bounds: ClosedRange<T>,
        _ wanted: String,
        _ convert: (JSONValue) -> T?
    ) {
        let lowGiven = value([lowName] + suffixes.map { lowName + $0 }, in: bounds, wanted, convert)
        let highGiven = value([highName] + suffixes.map { highName + $0 }, in: bounds, wanted, convert)
        switch (lowGiven, highGiven) {
        case (let lowGiven?, let highGiven?):
            if lowGiven > highGiven, let place = places.first(where: { $0.has(highName) }) ?? places.first {
                place.fail(highName, "\(highName) is less than \(lowName)", fix: "write at least as much as \(lowName)")
            }
            (low, high) = (lowGiven, highGiven)
        case (let lowGiven?, nil): (low, high) = (lowGiven, max(high, lowGiven))
        case (nil, let highGiven?): (low, high) = (min(low, highGiven), highGiven)
        case (nil, nil): break
        }
    }
}
