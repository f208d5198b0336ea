// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore
import TelemetryExport
import Testing

@Suite struct ExportSettingsTests {
    private func read(
        _ endpoint: String? = nil,
        headers: String? = nil,
        signals: String? = nil,
        _ environment: [String: String] = [:]
    ) throws -> ExportSettings? {
        try ExportSettings.read(endpoint: endpoint, headers: headers, signals: signals, environment: environment)
    }

    @Test func withoutAnEndpointNothingIsExported() throws {
        #expect(try read() == nil)
        #expect(try read("", headers: "a=b", ["OTEL_EXPORTER_OTLP_ENDPOINT": ""]) == nil)
    }

    @Test(arguments: [
        ("http://h:4318", ExportSettings.Transport.http(address: "http://h:4318")),
        ("https://h/otlp/", .http(address: "https://h/otlp")),
        ("grpc://h:1", .grpc(host: "h", port: 1, isEncrypted: false)),
        ("grpcs://h", .grpc(host: "h", port: 4317, isEncrypted: true)),
        ("grpc://[::1]:5", .grpc(host: "::1", port: 5, isEncrypted: false)),
    ])
    func endpointsSayHowToSend(_ text: String, _ transport: ExportSettings.Transport) throws {
        #expect(try read(text)?.transport == transport)
    }

    @Test(arguments: ["h:4318", "ftp://h", "http://", "http://user:word@h", "grpc://", "http://h?x=1", "::"])
    func whatIsNoEndpointIsRefused(_ text: String) {
        #expect(throws: ServiceError.self) { try read(text) }
        #expect(throws: ServiceError.self) { try read(nil, ["OTEL_EXPORTER_OTLP_ENDPOINT": "ftp://h"]) }
    }

    @Test func openTelemetrysVariablesCountWhereTheSettingIsAbsent() throws {
        var variables = [
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://v:4317", "OTEL_EXPORTER_OTLP_HEADERS": "a=b",
            "OTEL_SERVICE_NAME": "mine",
        ]
        let settings = try #require(try read(nil, variables))
        #expect(settings.transport == .http(address: "http://v:4317"))
        #expect(settings.headers == [.init(name: "a", value: "b")])
        #expect(settings.serviceName == "mine")
        variables["OTEL_EXPORTER_OTLP_PROTOCOL"] = "grpc"
        #expect(try read(nil, variables)?.transport == .grpc(host: "v", port: 4317, isEncrypted: false))
        variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = "https://v"
        #expect(try read(nil, variables)?.transport == .grpc(host: "v", port: 4317, isEncrypted: true))
        variables["OTEL_EXPORTER_OTLP_PROTOCOL"] = "http/json"
        #expect(throws: ServiceError.self) { try read(nil, variables) }
        let own = try #require(try read("http://s", variables))
        #expect(own.transport == .http(address: "http://s"))
        #expect(own.headers.isEmpty)
    }

    @Test func headersArePairsWithPercentEncoding() throws {
        let settings = try read("http://h", headers: "Authorization=Bearer%20x%2Cy, b = c=d ,")
        #expect(
            settings?.headers == [.init(name: "authorization", value: "Bearer x,y"), .init(name: "b", value: "c=d")]
        )
        for text in ["a", "=b", "a=%0d%0ax", "a b=c"] {
            let error = #expect(throws: ServiceError.self) { try read("http://h", headers: text) }
            #expect(error?.message.contains("telemetry.export.headers") == true)
        }
    }

    @Test func signalsCanBeChosen() throws {
        #expect(try read("http://h")?.signals == [.traces, .logs, .metrics])
        #expect(try read("http://h", signals: "traces, Logs")?.signals == [.traces, .logs])
        #expect(throws: ServiceError.self) { try read("http://h", signals: "spans") }
    }
}
