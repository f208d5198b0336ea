// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import GRPCCore
import GRPCNIOTransportHTTP2Posix
import MartletCore
import OTLP

/// OTLP/gRPC.
struct GRPCExport: ExportTransport {
    private static let timeout = Duration.seconds(10)

    let client: GRPCClient<HTTP2ClientTransport.Posix>
    private let metadata: Metadata
    private let options: CallOptions

    init(client: GRPCClient<HTTP2ClientTransport.Posix>, headers: [ExportSettings.Header]) {
        self.client = client
        var metadata = Metadata()
        for header in headers { metadata.addString(header.value, forKey: header.name) }
        self.metadata = metadata
        var options = CallOptions.defaults
        options.timeout = Self.timeout
        // Calls are tried again by the exporter, which knows what else waits.
        options.waitForReady = false
        self.options = options
    }

    func send(_ request: ExportRequest) async -> ExportResult {
        do {
            switch request {
            case .traces(let message):
                let service = Opentelemetry_Proto_Collector_Trace_V1_TraceService.Client(wrapping: client)
                let answer = try await service.export(message, metadata: metadata, options: options).partialSuccess
                return .taken(rejected: Int(clamping: answer.rejectedSpans), reason: answer.errorMessage)
            case .logs(let message):
                let service = Opentelemetry_Proto_Collector_Logs_V1_LogsService.Client(wrapping: client)
                let answer = try await service.export(message, metadata: metadata, options: options).partialSuccess
                return .taken(rejected: Int(clamping: answer.rejectedLogRecords), reason: answer.errorMessage)
            case .metrics(let message):
                let service = Opentelemetry_Proto_Collector_Metrics_V1_MetricsService.Client(wrapping: client)
                let answer = try await service.export(message, metadata: metadata, options: options).partialSuccess
                return .taken(rejected: Int(clamping: answer.rejectedDataPoints), reason: answer.errorMessage)
            }
        } catch let error as RPCError {
            return Self.result(error)
        } catch {
            return .later(reason: "\(error)", seconds: nil)
        }
    }

    /// Which calls may be sent again, by OTLP's list.
    private static func result(_ error: RPCError) -> ExportResult {
        let reason = "gRPC status \(error.code) \(error.message.prefix(300))"
        switch error.code {
        case .cancelled, .deadlineExceeded, .resourceExhausted, .aborted, .outOfRange, .unavailable, .dataLoss:
            return .later(reason: reason, seconds: nil)
        default: return .refused(reason: reason)
        }
    }
}
