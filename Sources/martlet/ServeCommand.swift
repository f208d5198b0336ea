// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Engine
import Foundation
import Logging
import MartletCore

/// Runs the engine in the foreground.
struct ServeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Run the engine in the foreground until SIGINT or SIGTERM.",
        discussion: """
            Everything is kept below the data directory. The API listens on loopback; on any other address a bearer token is required.

            Settings come from defaults, then the YAML file of --config, then MARTLET_* variables (MARTLET_HTTP_PORT for http.port), then flags.

            EXAMPLES
              martlet serve
              martlet serve --data-dir /var/lib/martlet --port 8070
              MARTLET_TOKEN=$(openssl rand -hex 32) martlet serve --host 0.0.0.0
            """
    )

    @Option(
        name: .customLong("data-dir"),
        help: "Directory that holds everything the engine keeps (default: ./martlet-data)."
    )
    var dataDirectory: String?

    @Option(help: "Address to listen on (default: 127.0.0.1).")
    var host: String?

    @Option(help: "Port of the HTTP API (default: 8070; 0 takes a free one).")
    var port: Int?

    @Option(
        name: .customLong("grpc-port"),
        help: "Port of the gRPC server (default: 8071, or one above --port; 0 takes a free one)."
    )
    var grpcPort: Int?

    @Option(
        name: .customLong("kafka-port"),
        help: "Port for Kafka's clients (default: 9092, or 1022 above --port; 0 takes a free one)."
    )
    var kafkaPort: Int?

    @Option(help: "YAML file with settings.")
    var config: String?

    @Option(
        name: .customLong("log-level"),
        help: "trace, debug, info, notice, warning, error or critical (default: info)."
    )
    var logLevel: String?

    func run() async throws {
        var flags: [String: String] = [:]
        flags["data.dir"] = dataDirectory
        flags["http.host"] = host
        flags["http.port"] = port.map(String.init)
        flags["log.level"] = logLevel
        flags["grpc.port"] = grpcPort.map(String.init)
        flags["kafka.port"] = kafkaPort.map(String.init)
        let configuration = try await EngineConfiguration.load(file: config, flags: flags)
        guard let level = Logger.Level(rawValue: configuration.logLevel.lowercased()) else {
            throw ServiceError.invalid(
                field: "log.level",
                "'\(configuration.logLevel)' is not a level",
                fix: "write \(Logger.Level.allCases.map(\.rawValue).joined(separator: ", "))"
            )
        }
        var logger = Logger(label: "martlet") { StreamLogHandler.standardError(label: $0) }
        logger.logLevel = level
        for warning in EngineConfiguration.warnings(ProcessInfo.processInfo.environment) {
            logger.warning("\(warning)")
        }
        let started = ContinuousClock.now
        let data = URL(fileURLWithPath: configuration.dataDirectory).standardizedFileURL.path
        try await Engine(configuration: configuration, logger: logger).run { addresses in
            let taken = ContinuousClock.now - started
            let milliseconds = taken.components.seconds * 1000 + taken.components.attoseconds / 1_000_000_000_000_000
            let lines = """
                Martlet \(Engine.version) is ready after \(milliseconds) ms
                  API   \(addresses.api)/api/v1   (description: \(addresses.api)/openapi.json)
                  OTLP  \(addresses.api)/v1/{traces,logs,metrics}
                  gRPC  \(addresses.grpc.map { "\($0)   (events, OTLP)" } ?? "switched off")
                  Kafka \(addresses.kafka ?? "switched off")
                  Data  \(data)
                  Stop with Ctrl-C.

                """
            FileHandle.standardOutput.write(Data(lines.utf8))
        }
    }
}
