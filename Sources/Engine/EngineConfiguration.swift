// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Configuration
import Documents
import Foundation
package import MartletCore
import SystemPackage

/// Every setting of the engine, with its default; docs/operations.md lists them.
///
/// Read in this order, later ones winning: defaults, the YAML file, `MARTLET_*` variables, flags.
package struct EngineConfiguration: Sendable {
    package var dataDirectory = "./martlet-data"
    package var host = "127.0.0.1"
    package var port = 8070
    /// Required as soon as `host` is not loopback.
    package var token: String?
    /// Bearer token of callers who may only read.
    package var readToken: String?
    /// First part of event types and sources.
    package var authority = "vastdata.com"
    /// First part of event subjects.
    package var broker = "martlet"
    package var defaultTopic = "events"
    package var deadLetterTopic = "dead-letters"
    /// Virtual environment whose `pip` builds functions and whose DuckDB is used; found beside the program where not set.
    package var pythonEnvironment: String?
    /// Folder with the `martlet` Python package; found beside the program where not set.
    package var pythonSDK: String?
    /// DuckDB library to use instead of the one found.
    package var duckDBLibrary: String?
    package var installsSystemPackages = false
    package var telemetryRetentionDays = 7
    /// What the engine and its functions report about themselves; what comes from outside is taken whatever this says.
    package var telemetrySignals = Set(TelemetrySignal.allCases)
    /// Whether there is a gRPC server.
    package var grpcEnabled = true
    /// The HTTP server's where not set.
    package var grpcHost: String?
    /// One above the HTTP server's where not set, and a free one where that takes a free one.
    package var grpcPort: Int?
    /// Whether Kafka's clients are served.
    package var kafkaEnabled = true
    package var kafkaHost = "127.0.0.1"
    /// 1022 above the HTTP server's where not set, and a free one where that takes a free one.
    package var kafkaPort: Int?
    /// What clients are told to connect to, where that is not what the engine listens on.
    package var kafkaAdvertisedHost: String?
    package var kafkaAdvertisedPort: Int?
    /// Whether another address than loopback may be served without authentication.
    package var kafkaAllowsAnonymous = false
    /// Whether a topic is made when a client names one that does not exist.
    package var kafkaCreatesTopics = true
    /// Partitions of such a topic.
    package var kafkaDefaultPartitions = 1
    /// How long the offsets of a group without members stay after its last commit.
    package var groupRetentionHours = 168
    package var groupMembersMax = 1000
    /// The shortest and the longest session timeout that a member may ask for.
    package var groupSessionSecondsMin = 6
    package var groupSessionSecondsMax = 1800
    /// Who may use the Kafka door.
    package var kafkaSecurity = KafkaSecuritySettings()
    /// Where telemetry goes besides the store; nil for nowhere, or where OpenTelemetry's variables say.
    package var exportEndpoint: String?
    /// Headers for it; may hold a token.
    package var exportHeaders: String?
    /// Which signals go there; nil for all.
    package var exportSignals: String?
    /// File of PEM certificates that the endpoint's must lead to; nil trusts what the system trusts.
    package var exportCertificate: String?
    package var tableMemoryBytes = 512 << 20
    package var tableSpillBytes = 10 << 30
    /// What the sinks of all tables may take together.
    package var sinkMemoryBytes = 192 << 20
    /// How often files of tables are merged, and removed where retention says so.
    package var tableMaintenanceSeconds = 10
    /// Time limit of a statement that names none.
    package var sqlTimeoutSeconds = 60
    /// How long a statement may go without being asked for.
    package var sqlIdleSeconds = 300
    package var logLevel = "info"

    package init() {}

    /// Reads the configuration.
    ///
    /// - Parameters:
    ///   - file: Path of a YAML file, or nil for `MARTLET_SERVE_CONFIG` or none.
    ///   - flags: What the command line says, by the keys of the file.
    /// - Returns: The settings.
    /// - Throws: `ServiceError` naming the file or key at fault.
    package static func load(file: String?, flags: [String: String]) async throws -> EngineConfiguration {
        let environment = EnvironmentVariablesProvider()
        var providers: [any ConfigProvider] = [
            InMemoryProvider(
                name: "flags",
                values: Dictionary(
                    uniqueKeysWithValues: flags.map { key, value in
                        (
                            AbsoluteConfigKey(key.split(separator: ".").map(String.init)),
                            ConfigValue(.string(value), isSecret: false)
                        )
                    }
                )
            ), environment.prefixKeys(with: "martlet"),
        ]
        if let file = file ?? ProcessInfo.processInfo.environment["MARTLET_SERVE_CONFIG"] {
            try checkKeys(of: file)
            do {
                providers.append(try await FileProvider<YAMLSnapshot>(filePath: FilePath(file)))
            } catch {
                throw unreadable(file, "\(error)")
            }
        }
        return try EngineConfiguration(ConfigReader(providers: providers))
    }

    /// Every key a file may have.
    private static let keys =
        [
            "data.dir", "http.host", "http.port", "token", "read-token", "events.authority", "events.broker",
            "topics.default",
            "topics.dead-letter", "python.environment", "python.sdk", "duckdb.library",
            "functions.install-system-packages",
            "telemetry.retention-days", "tables.memory-mib", "tables.spill-mib",
            "tables.sink-memory-mib", "sql.timeout-seconds", "sql.idle-seconds",
            "log.level",
            "grpc.enabled", "grpc.host", "grpc.port", "kafka.enabled", "kafka.host", "kafka.port",
            "kafka.advertised-host",
            "kafka.advertised-port", "kafka.allow-anonymous", "kafka.create-topics", "kafka.default-partitions",
            "groups.retention-hours", "groups.members-max", "groups.session-seconds-min", "groups.session-seconds-max",
            "telemetry.export.endpoint", "telemetry.export.headers", "telemetry.export.signals",
            "telemetry.export.certificate", "telemetry.signals", "tables.maintenance-seconds",
        ] + KafkaSecuritySettings.keys

    /// Keys that a file may give a list.
    private static let listKeys: Set = ["telemetry.signals", "telemetry.export.signals"]

    /// What to warn of: `MARTLET_*` variables that nobody reads, with what was probably meant.
    ///
    /// They are no reason not to start: other programs' variables may begin the same way.
    package static func warnings(_ environment: [String: String]) -> [String] {
        let prefix = "MARTLET_"
        let settings = keys.map { $0.uppercased().replacing(".", with: "_").replacing("-", with: "_") }
        let known = Set(settings + ["SERVE_CONFIG", "SERVER", "OUTPUT", "CONFIG"])
        return environment.keys.sorted().compactMap { name in
            guard name.hasPrefix(prefix) else { return nil }
            let rest = String(name.dropFirst(prefix.count))
            guard !known.contains(rest) else { return nil }
            let near = NearestName.of(rest, among: settings).map { "; did you mean \(prefix)\($0)?" }
            return "the environment variable \(name) is no setting and has no effect\(near ?? "")"
        }
    }

    /// Refuses keys nobody reads, which are more likely mistyped than meant.
    private static func checkKeys(of file: String) throws {
        guard let data = FileManager.default.contents(atPath: file) else {
            throw unreadable(file, "there is no such file")
        }
        let document = try DocumentParser.parse(Array(data), contentType: "application/yaml")
        for (path, line) in document.lines.sorted(by: { $0.value < $1.value }) where !path.isEmpty {
            guard !keys.contains(path), !keys.contains(where: { $0.hasPrefix(path + ".") }) else { continue }
            let key = String(path.prefix { $0 != "[" })
            if path.count > key.count, keys.contains(key) {
                guard !listKeys.contains(key) else { continue }
                throw ServiceError.invalid(field: key, "takes one value and not a list", line: line)
            }
            let near = NearestName.of(path, among: keys)
            throw ServiceError.invalid(
                field: path,
                "is not a setting (line \(line) of \(file))",
                fix: near.map { "did you mean \($0)?" } ?? "the settings are \(keys.joined(separator: ", "))",
                line: line
            )
        }
    }

    private static func unreadable(_ file: String, _ why: String) -> ServiceError {
        ServiceError(
            .failedPrecondition,
            "the settings file \(file) cannot be read: \(why)",
            fix: "mend the file, or start without --config"
        )
    }

    private init(_ reader: ConfigReader) throws {
        dataDirectory = reader.string(forKey: "data.dir", default: dataDirectory)
        host = reader.string(forKey: "http.host", default: host)
        port = try Self.integer(reader, "http.port", default: port)
        token = reader.string(forKey: "token", isSecret: true)
        readToken = reader.string(forKey: "read-token", isSecret: true)
        authority = reader.string(forKey: "events.authority", default: authority)
        broker = reader.string(forKey: "events.broker", default: broker)
        defaultTopic = reader.string(forKey: "topics.default", default: defaultTopic)
        deadLetterTopic = reader.string(forKey: "topics.dead-letter", default: deadLetterTopic)
        pythonEnvironment = reader.string(forKey: "python.environment")
        pythonSDK = reader.string(forKey: "python.sdk")
        duckDBLibrary = reader.string(forKey: "duckdb.library")
        installsSystemPackages = reader.string(forKey: "functions.install-system-packages", default: "false") == "true"
        telemetryRetentionDays = try Self.integer(reader, "telemetry.retention-days", default: telemetryRetentionDays)
        if let signals = Self.list(reader, "telemetry.signals") {
            telemetrySignals = try TelemetrySignal.set(signals, field: "telemetry.signals")
        }
        tableMemoryBytes = try Self.integer(reader, "tables.memory-mib", default: tableMemoryBytes >> 20) << 20
        tableSpillBytes = try Self.integer(reader, "tables.spill-mib", default: tableSpillBytes >> 20) << 20
        sinkMemoryBytes = try Self.sinkMemory(reader, default: sinkMemoryBytes)
        tableMaintenanceSeconds = try Self.seconds(
            reader,
            "tables.maintenance-seconds",
            default: tableMaintenanceSeconds
        )
        sqlTimeoutSeconds = try Self.seconds(reader, "sql.timeout-seconds", default: sqlTimeoutSeconds)
        sqlIdleSeconds = try Self.seconds(reader, "sql.idle-seconds", default: sqlIdleSeconds)
        logLevel = reader.string(forKey: "log.level", default: logLevel)
        grpcEnabled = reader.string(forKey: "grpc.enabled", default: "true") != "false"
        grpcHost = reader.string(forKey: "grpc.host")
        grpcPort = try Self.optionalInteger(reader, "grpc.port")
        kafkaEnabled = reader.string(forKey: "kafka.enabled", default: "true") != "false"
        kafkaHost = reader.string(forKey: "kafka.host", default: kafkaHost)
        kafkaPort = try Self.optionalInteger(reader, "kafka.port")
        kafkaAdvertisedHost = reader.string(forKey: "kafka.advertised-host")
        kafkaAdvertisedPort = try Self.optionalInteger(reader, "kafka.advertised-port")
        kafkaAllowsAnonymous = reader.string(forKey: "kafka.allow-anonymous", default: "false") == "true"
        kafkaCreatesTopics = reader.string(forKey: "kafka.create-topics", default: "true") != "false"
        kafkaDefaultPartitions = try Self.integer(reader, "kafka.default-partitions", default: kafkaDefaultPartitions)
        try readGroups(reader)
        kafkaSecurity = try KafkaSecuritySettings(reader)
        exportEndpoint = reader.string(forKey: "telemetry.export.endpoint")
        exportHeaders = reader.string(forKey: "telemetry.export.headers", isSecret: true)
        exportSignals = Self.list(reader, "telemetry.export.signals")
        exportCertificate = reader.string(forKey: "telemetry.export.certificate")
    }

    /// Words with commas between them, also where a file has them as a list.
    private static func list(_ reader: ConfigReader, _ key: String) -> String? {
        let name = ConfigKey(key.split(separator: ".").map(String.init))
        return reader.string(forKey: name) ?? reader.stringArray(forKey: name)?.joined(separator: ",")
    }

    private mutating func readGroups(_ reader: ConfigReader) throws {
        groupRetentionHours = try Self.integer(
            reader,
            "groups.retention-hours",
            default: groupRetentionHours,
            from: 1...87_600
        )
        groupMembersMax = try Self.integer(reader, "groups.members-max", default: groupMembersMax, from: 1...10_000)
        groupSessionSecondsMin = try Self.seconds(reader, "groups.session-seconds-min", default: groupSessionSecondsMin)
        groupSessionSecondsMax = try Self.seconds(reader, "groups.session-seconds-max", default: groupSessionSecondsMax)
        guard groupSessionSecondsMin <= groupSessionSecondsMax else {
            throw ServiceError.invalid(
                field: "groups.session-seconds-min",
                "\(groupSessionSecondsMin) is more than groups.session-seconds-max, which is \(groupSessionSecondsMax)",
                fix: "make it \(groupSessionSecondsMax) or less"
            )
        }
    }

    private static func sinkMemory(_ reader: ConfigReader, default value: Int) throws -> Int {
        let key = "tables.sink-memory-mib"
        let mebibytes = try integer(reader, key, default: value >> 20)
        guard (16...1_048_576).contains(mebibytes) else {
            throw ServiceError.invalid(field: key, "\(mebibytes) is out of range", fix: "use 16 to 1048576")
        }
        return mebibytes << 20
    }

    private static func seconds(_ reader: ConfigReader, _ key: String, default value: Int) throws -> Int {
        try integer(reader, key, default: value, from: 1...86_400)
    }

    private static func integer(
        _ reader: ConfigReader,
        _ key: String,
        default value: Int,
        from range: ClosedRange<Int>
    ) throws -> Int {
        let number = try integer(reader, key, default: value)
        guard range.contains(number) else {
            throw ServiceError.invalid(
                field: key,
                "\(number) is out of range",
                fix: "use \(range.lowerBound) to \(range.upperBound)"
            )
        }
        return number
    }

    private static func optionalInteger(_ reader: ConfigReader, _ key: String) throws -> Int? {
        let name = ConfigKey(key.split(separator: ".").map(String.init))
        guard reader.string(forKey: name) != nil || reader.int(forKey: name) != nil else { return nil }
        return try integer(reader, key, default: 0)
    }

    private static func integer(_ reader: ConfigReader, _ key: String, default value: Int) throws -> Int {
        let name = ConfigKey(key.split(separator: ".").map(String.init))
        if let number = reader.int(forKey: name) { return number }
        guard let text = reader.string(forKey: name) else { return value }
        guard let number = Int(text), number >= 0 else {
            throw ServiceError.invalid(field: key, "'\(text)' is not a whole number", fix: "write for example \(value)")
        }
        return number
    }
}
