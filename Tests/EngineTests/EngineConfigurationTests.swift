// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Engine
import Foundation
import MartletCore
import Testing

@Suite struct EngineConfigurationTests {
    @Test func flagsWinOverTheFileAndTheFileOverDefaults() async throws {
        let file = FileManager.default.temporaryDirectory.appending(path: "martlet-\(UUID().uuidString).yaml").path
        try Data("http:\n  port: 9001\n  host: ::1\nlog:\n  level: debug\n".utf8).write(to: URL(filePath: file))
        defer { try? FileManager.default.removeItem(atPath: file) }
        let loaded = try await EngineConfiguration.load(file: file, flags: ["http.port": "9002"])
        #expect(loaded.port == 9002)
        #expect(loaded.host == "::1")
        #expect(loaded.logLevel == "debug")
        #expect(loaded.defaultTopic == EngineConfiguration().defaultTopic)
    }

    @Test func signalsMayBeAListInTheFile() async throws {
        let file = FileManager.default.temporaryDirectory.appending(path: "martlet-\(UUID().uuidString).yaml").path
        defer { try? FileManager.default.removeItem(atPath: file) }
        let text = "telemetry:\n  signals: [logs, traces]\n  export:\n    signals:\n      - metrics\n      - logs\n"
        try Data(text.utf8).write(to: URL(filePath: file))
        let loaded = try await EngineConfiguration.load(file: file, flags: [:])
        #expect(loaded.telemetrySignals == [.logs, .traces])
        #expect(loaded.exportSignals == "metrics,logs")
        try Data("http:\n  port: [1, 2]\n".utf8).write(to: URL(filePath: file))
        let error = await #expect(throws: ServiceError.self) {
            try await EngineConfiguration.load(file: file, flags: [:])
        }
        #expect(error?.message.contains("one value and not a list") == true)
    }

    @Test func variablesThatNobodyReadsAreNamed() {
        let said = EngineConfiguration.warnings([
            "MARTLET_HTTP_PROT": "1", "MARTLET_HTTP_PORT": "1", "MARTLET_READ_TOKEN": "x", "MARTLET_SERVER": "x",
            "MARTLET_SOMETHING_ELSE": "x", "PATH": "x", "MARTLET_TABLES_SINK_MEMORY_MIB": "64",
            "MARTLET_SERVE_CONFIG": "x",
        ])
        #expect(
            said == [
                "the environment variable MARTLET_HTTP_PROT is no setting and has no effect; did you mean MARTLET_HTTP_PORT?",
                "the environment variable MARTLET_SOMETHING_ELSE is no setting and has no effect",
            ]
        )
    }

    @Test func grpcAndExportAreSetByFileAndFlag() async throws {
        let file = FileManager.default.temporaryDirectory.appending(path: "martlet-\(UUID().uuidString).yaml").path
        let text = """
            grpc:
              enabled: false
              host: ::1
              port: 9001
            telemetry:
              export:
                endpoint: grpc://h:4317
                headers: authorization=x
                signals: traces
            """
        try Data(text.utf8).write(to: URL(filePath: file))
        defer { try? FileManager.default.removeItem(atPath: file) }
        let loaded = try await EngineConfiguration.load(file: file, flags: [:])
        #expect((loaded.grpcEnabled, loaded.grpcHost, loaded.grpcPort) == (false, "::1", 9001))
        #expect(loaded.exportEndpoint == "grpc://h:4317")
        #expect(loaded.exportHeaders == "authorization=x")
        #expect(loaded.exportSignals == "traces")
        #expect(try await EngineConfiguration.load(file: file, flags: ["grpc.port": "0"]).grpcPort == 0)
        let defaults = try await EngineConfiguration.load(file: nil, flags: [:])
        #expect((defaults.grpcEnabled, defaults.grpcPort) == (true, nil))
    }

    @Test(
        arguments: [
            ("traces", [.traces]), ("logs, METRICS", [.logs, .metrics]), ("none", []),
        ] as [(String, Set<TelemetrySignal>)]
    )
    func whatIsReportedCanBeChosen(text: String, signals: Set<TelemetrySignal>) async throws {
        let loaded = try await EngineConfiguration.load(file: nil, flags: ["telemetry.signals": text])
        #expect(loaded.telemetrySignals == signals)
        #expect(try await EngineConfiguration.load(file: nil, flags: [:]).telemetrySignals.count == 3)
    }

    @Test(arguments: ["spans", "none,traces", ","]) func aSignalThatIsNoneIsRefused(text: String) async {
        await #expect(throws: ServiceError.self) {
            try await EngineConfiguration.load(file: nil, flags: ["telemetry.signals": text])
        }
    }

    @Test func aFileThatCannotBeReadOrANumberThatIsNoneIsRefused() async {
        await #expect(throws: ServiceError.self) {
            try await EngineConfiguration.load(file: "/no/such/martlet.yaml", flags: [:])
        }
        await #expect(throws: ServiceError.self) {
            try await EngineConfiguration.load(file: nil, flags: ["http.port": "many"])
        }
    }

    @Test func limitsOfGroupsAreSetAndChecked() async throws {
        let defaults = try await EngineConfiguration.load(file: nil, flags: [:])
        #expect((defaults.groupRetentionHours, defaults.groupMembersMax) == (168, 1000))
        #expect((defaults.groupSessionSecondsMin, defaults.groupSessionSecondsMax) == (6, 1800))
        let loaded = try await EngineConfiguration.load(
            file: nil,
            flags: [
                "groups.retention-hours": "1", "groups.members-max": "3", "groups.session-seconds-min": "2",
                "groups.session-seconds-max": "60",
            ]
        )
        #expect((loaded.groupRetentionHours, loaded.groupMembersMax) == (1, 3))
        #expect((loaded.groupSessionSecondsMin, loaded.groupSessionSecondsMax) == (2, 60))
    }

    @Test(
        arguments: [
            ["groups.retention-hours": "0"], ["groups.members-max": "0"], ["groups.members-max": "10001"],
            ["groups.session-seconds-min": "61", "groups.session-seconds-max": "60"],
        ]
    )
    func limitsOfGroupsThatMakeNoSenseAreRefused(flags: [String: String]) async {
        await #expect(throws: ServiceError.self) { try await EngineConfiguration.load(file: nil, flags: flags) }
    }
}
