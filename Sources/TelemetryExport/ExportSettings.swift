// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
package import MartletCore

/// Where telemetry goes besides the engine's own store.
package struct ExportSettings: Sendable, Equatable {
    /// How records travel.
    package enum Transport: Sendable, Equatable {
        /// OTLP/HTTP with protobuf bodies; the address ends before `/v1/traces`.
        case http(address: String)
        /// OTLP/gRPC.
        case grpc(host: String, port: Int, isEncrypted: Bool)
    }

    package var transport: Transport
    /// Headers or metadata of each request, which may hold a token.
    package var headers: [Header]
    package var signals: Set<TelemetrySignal>
    /// File of PEM certificates that the endpoint's certificate must lead to; nil trusts what the system trusts.
    package var certificate: String?
    /// Name of the engine's own service.
    package var serviceName = "martlet"

    /// The endpoint, for logs.
    var place: String {
        switch transport {
        case .http(let address): address
        case .grpc(let host, let port, let isEncrypted): "grpc\(isEncrypted ? "s" : "")://\(host):\(port)"
        }
    }

    /// One header.
    package struct Header: Sendable, Equatable {
        package var name: String
        package var value: String

        package init(name: String, value: String) {
            self.name = name
            self.value = value
        }
    }

    package init(
        transport: Transport,
        headers: [Header] = [],
        signals: Set<TelemetrySignal> = Set(TelemetrySignal.allCases)
    ) {
        self.transport = transport
        self.headers = headers
        self.signals = signals
    }

    /// Reads the settings `telemetry.export.*`, and where the endpoint is not among them the variables OpenTelemetry has for it.
    ///
    /// - Parameters:
    ///   - endpoint: `http://host:4318`, `https://…`, `grpc://host:4317` or `grpcs://…`.
    ///   - headers: `name=value,name=value`.
    ///   - signals: `traces,logs,metrics`, or some of them.
    ///   - certificate: File of the certificates to trust, where the endpoint's is not signed by a known authority.
    ///   - environment: Variables of the process.
    /// - Returns: The settings, or nil where nothing is to be exported.
    /// - Throws: `ServiceError` `.invalid` naming the setting or variable at fault.
    package static func read(
        endpoint: String?,
        headers: String?,
        signals: String?,
        certificate: String? = nil,
        environment: [String: String]
    ) throws -> ExportSettings? {
        let variable = environment["OTEL_EXPORTER_OTLP_ENDPOINT"].flatMap { $0.isEmpty ? nil : $0 }
        let transport: Transport
        let headerText: String?
        if let endpoint, !endpoint.isEmpty {
            transport = try self.transport(endpoint, "telemetry.export.endpoint")
            headerText = headers
        } else if let variable {
            guard environment["OTEL_SDK_DISABLED"]?.lowercased() != "true" else { return nil }
            let spoken = environment["OTEL_EXPORTER_OTLP_PROTOCOL"].flatMap { $0.isEmpty ? nil : $0 } ?? "http/protobuf"
            transport = try self.transport(variable, protocolName: spoken)
            headerText = headers ?? environment["OTEL_EXPORTER_OTLP_HEADERS"]
        } else {
            return nil
        }
        var settings = ExportSettings(transport: transport, headers: try self.headers(headerText ?? ""))
        if let signals { settings.signals = try self.signals(signals) }
        settings.certificate = try Self.certificate(certificate, environment["OTEL_EXPORTER_OTLP_CERTIFICATE"])
        if let name = environment["OTEL_SERVICE_NAME"], !name.isEmpty { settings.serviceName = name }
        return settings
    }

    private static func certificate(_ setting: String?, _ variable: String?) throws -> String? {
        let given = [(setting, "telemetry.export.certificate"), (variable, "OTEL_EXPORTER_OTLP_CERTIFICATE")]
        guard case (let path?, let field)? = given.first(where: { $0.0.map { !$0.isEmpty } ?? false }) else {
            return nil
        }
        guard FileManager.default.isReadableFile(atPath: path) else {
            throw ServiceError.invalid(
                field: field,
                "the file '\(path.prefix(300))' cannot be read",
                fix: "name a file of certificates in PEM form"
            )
        }
        return path
    }

    private static func transport(_ endpoint: String, protocolName: String) throws -> Transport {
        let field = "OTEL_EXPORTER_OTLP_ENDPOINT"
        switch protocolName {
        case "http/protobuf": return try transport(endpoint, field)
        case "grpc":
            // For gRPC the variable has http or https as well, or no scheme at all.
            let text = endpoint.contains("://") ? endpoint : "http://\(endpoint)"
            return try transport(text.replacing(/^http/.ignoresCase(), with: "grpc"), field)
        default:
            throw ServiceError.invalid(
                field: "OTEL_EXPORTER_OTLP_PROTOCOL",
                "'\(protocolName.prefix(40))' cannot be spoken",
                fix: "write http/protobuf or grpc, or set telemetry.export.endpoint"
            )
        }
    }

    private static func transport(_ text: String, _ field: String) throws -> Transport {
        let parts = URLComponents(string: text)
        guard let parts, let scheme = parts.scheme?.lowercased(), let host = parts.host, !host.isEmpty,
            parts.user == nil, parts.query == nil
        else { throw unusable(field, text) }
        switch scheme {
        case "http", "https":
            var address = text
            while address.hasSuffix("/") { address.removeLast() }
            return .http(address: address)
        case "grpc", "grpcs":
            let bare = host.hasPrefix("[") ? String(host.dropFirst().dropLast()) : host
            return .grpc(host: bare, port: parts.port ?? 4317, isEncrypted: scheme == "grpcs")
        default: throw unusable(field, text)
        }
    }

    private static func unusable(_ field: String, _ text: String) -> ServiceError {
        ServiceError.invalid(
            field: field,
            "'\(text.prefix(100))' is no address telemetry can be sent to",
            fix: "write for example http://127.0.0.1:4318 or grpc://127.0.0.1:4317"
        )
    }

    /// Pairs with commas between them, percent-encoded where needed, as OpenTelemetry's variable has them.
    private static func headers(_ text: String) throws -> [Header] {
        try text.split(separator: ",").filter { !$0.allSatisfy(\.isWhitespace) }.map { pair in
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let name = parts[0].trimmingCharacters(in: .whitespaces).lowercased()
            let value = parts.count == 2 ? parts[1].trimmingCharacters(in: .whitespaces).removingPercentEncoding : nil
            let isName = !name.isEmpty && name.utf8.allSatisfy { isToken($0) }
            guard isName, let value, value.utf8.allSatisfy({ (0x20...0x7E).contains($0) }) else {
                throw ServiceError.invalid(
                    field: "telemetry.export.headers",
                    "cannot be read as headers",
                    fix: "write name=value,name=value with %2C for a comma"
                )
            }
            return Header(name: name, value: value)
        }
    }

    /// Whether a byte may be in a header's name.
    private static func isToken(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x61...0x7A, UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."): true
        default: false
        }
    }

    private static func signals(_ text: String) throws -> Set<TelemetrySignal> {
        let names = text.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces).lowercased() }
        return Set(
            try names.map { name in
                guard let signal = TelemetrySignal(rawValue: name) else {
                    throw ServiceError.invalid(
                        field: "telemetry.export.signals",
                        "'\(name.prefix(40))' is not a signal",
                        fix: "write traces, logs, metrics or some of them with commas between"
                    )
                }
                return signal
            }
        )
    }
}
