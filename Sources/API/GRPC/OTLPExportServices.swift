// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import GRPCCore
package import OTLP

/// OpenTelemetry's three services, which take spans, log records and metric points.
package enum OTLPExportServices {
    /// The three services over one receiver.
    package static func all(_ receiver: OTLPReceiver) -> [any RegistrableRPCService] {
        [TraceExport(receiver: receiver), LogsExport(receiver: receiver), MetricsExport(receiver: receiver)]
    }
}

private struct TraceExport: Opentelemetry_Proto_Collector_Trace_V1_TraceService.SimpleServiceProtocol {
    let receiver: OTLPReceiver

    func export(request: OTLPTraceRequest, context: ServerContext) async throws -> OTLPTraceResponse {
        do { return try receiver.take(request) } catch { throw RPCError(error) }
    }
}

private struct LogsExport: Opentelemetry_Proto_Collector_Logs_V1_LogsService.SimpleServiceProtocol {
    let receiver: OTLPReceiver

    func export(request: OTLPLogsRequest, context: ServerContext) async throws -> OTLPLogsResponse {
        do { return try receiver.take(request) } catch { throw RPCError(error) }
    }
}

private struct MetricsExport: Opentelemetry_Proto_Collector_Metrics_V1_MetricsService.SimpleServiceProtocol {
    let receiver: OTLPReceiver

    func export(request: OTLPMetricsRequest, context: ServerContext) async throws -> OTLPMetricsResponse {
        do { return try receiver.take(request) } catch { throw RPCError(error) }
    }
}

extension RPCError {
    fileprivate init(_ fault: OTLPFault) {
        self.init(
            code: RPCError.Code(Status.Code(rawValue: Int(fault.code.rawValue)) ?? .unknown) ?? .unknown,
            message: fault.message
        )
    }
}
