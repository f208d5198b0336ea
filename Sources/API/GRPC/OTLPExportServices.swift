// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import GRPCCore
import GRPCProtobuf
package import OTLP
import SwiftProtobuf

/// OpenTelemetry's three services, which take spans, log records and metric points.
package enum OTLPExportServices {
    /// The three services over one receiver.
    package static func all(_ receiver: OTLPReceiver) -> [any RegistrableRPCService] {
        [
            ExportService<OTLPTraceRequest, OTLPTraceResponse>(
                method: Opentelemetry_Proto_Collector_Trace_V1_TraceService.Method.Export.descriptor
            ) { try receiver.take($0) },
            ExportService<OTLPLogsRequest, OTLPLogsResponse>(
                method: Opentelemetry_Proto_Collector_Logs_V1_LogsService.Method.Export.descriptor
            ) { try receiver.take($0) },
            ExportService<OTLPMetricsRequest, OTLPMetricsResponse>(
                method: Opentelemetry_Proto_Collector_Metrics_V1_MetricsService.Method.Export.descriptor
            ) { try receiver.take($0) },
        ]
    }
}

/// One service with one method, registered by hand because the generated code takes no limit of a message's size.
private struct ExportService<Request: SwiftProtobuf.Message, Response: SwiftProtobuf.Message>: RegistrableRPCService {
    let method: MethodDescriptor
    let take: @Sendable (Request) throws -> Response

    func registerMethods<Transport: ServerTransport>(with router: inout RPCRouter<Transport>) {
        router.registerHandler(
            forMethod: method,
            deserializer: BoundedDeserializer<Request>(bytesMax: OTLPLimits.messageBytesMax),
            serializer: ProtobufSerializer<Response>(),
            handler: { request, _ in
                let request = try await ServerRequest(stream: request)
                do {
                    return StreamingServerResponse(single: ServerResponse(message: try take(request.message)))
                } catch let fault as OTLPFault {
                    throw RPCError(fault)
                }
            }
        )
    }
}

/// Refuses a message that is too large with the status for it; the transport, whose limit is higher, would only break the call off.
private struct BoundedDeserializer<Request: SwiftProtobuf.Message>: MessageDeserializer {
    let bytesMax: Int

    func deserialize<Bytes: GRPCContiguousBytes>(_ bytes: Bytes) throws -> Request {
        let count = bytes.withUnsafeBytes { $0.count }
        guard count <= bytesMax else {
            throw RPCError(
                code: .resourceExhausted,
                message: "the message has \(count) bytes; this engine takes at most \(bytesMax): send smaller batches"
            )
        }
        return try ProtobufDeserializer<Request>().deserialize(bytes)
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
