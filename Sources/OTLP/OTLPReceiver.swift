// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
package import MartletCore
import SwiftProtobuf
import Synchronization

/// Takes export requests and leaves their records with the store.
///
/// What comes from outside goes to the store alone and never to the exporter, so that two engines that export to each other, or one that
/// exports to itself, send nothing round in circles.
package final class OTLPReceiver: OTLPServices {
    /// Seconds a sender is asked to wait when there is no room.
    private static let retrySeconds = 1

    private let intake: any TelemetryIntake
    private let deltas = CumulativeDeltas()
    private let decoding = Mutex(0)

    package init(intake: any TelemetryIntake) {
        self.intake = intake
    }

    // MARK: From outside, over HTTP

    package func receive(
        _ signal: TelemetrySignal,
        _ body: [UInt8],
        format: OTLPFormat,
        contentEncoding: String?
    ) -> OTLPAnswer {
        do {
            let bytes = try Self.inflated(body, contentEncoding)
            guard bytes.count <= OTLPLimits.messageBytesMax else {
                throw OTLPFault(
                    .resourceExhausted,
                    "the body has \(bytes.count) bytes; at most \(OTLPLimits.messageBytesMax) are taken"
                )
            }
            return try whileDecoding(bytes.count) {
                let answer =
                    switch signal {
                    case .traces: try Self.encode(try take(Self.decode(OTLPTraceRequest.self, bytes, format)), format)
                    case .logs: try Self.encode(try take(Self.decode(OTLPLogsRequest.self, bytes, format)), format)
                    case .metrics:
                        try Self.encode(try take(Self.decode(OTLPMetricsRequest.self, bytes, format)), format)
                    }
                return OTLPAnswer(status: 200, body: answer)
            }
        } catch let fault as OTLPFault {
            return OTLPAnswer(
                status: fault.httpStatus,
                body: Self.status(fault, format),
                retryAfter: fault.code == .unavailable ? Self.retrySeconds : nil
            )
        } catch {
            return OTLPAnswer(status: 500, body: Self.status(OTLPFault(.unknown, "\(error)"), format))
        }
    }

    package func refusal(_ error: ServiceError, format: OTLPFormat) -> [UInt8] {
        Self.status(OTLPFault(error), format)
    }

    // MARK: From outside, as messages

    /// Takes spans.
    ///
    /// - Throws: ``OTLPFault`` where there is no room or the request is too large.
    package func take(_ request: OTLPTraceRequest) throws(OTLPFault) -> OTLPTraceResponse {
        var decoder = RecordDecoder(origin: .outside)
        decoder.add(request)
        try offer(decoder)
        return .with { response in
            guard let reason = decoder.reason else { return }
            response.partialSuccess.rejectedSpans = Int64(decoder.rejected)
            response.partialSuccess.errorMessage = reason
        }
    }

    /// Takes log records.
    ///
    /// - Throws: ``OTLPFault`` where there is no room or the request is too large.
    package func take(_ request: OTLPLogsRequest) throws(OTLPFault) -> OTLPLogsResponse {
        var decoder = RecordDecoder(origin: .outside)
        decoder.add(request)
        try offer(decoder)
        return .with { response in
            guard let reason = decoder.reason else { return }
            response.partialSuccess.rejectedLogRecords = Int64(decoder.rejected)
            response.partialSuccess.errorMessage = reason
        }
    }

    /// Takes metric points.
    ///
    /// - Throws: ``OTLPFault`` where there is no room or the request is too large.
    package func take(_ request: OTLPMetricsRequest) throws(OTLPFault) -> OTLPMetricsResponse {
        var decoder = RecordDecoder(origin: .outside)
        decoder.add(request)
        try offer(decoder)
        return .with { response in
            guard let reason = decoder.reason else { return }
            response.partialSuccess.rejectedDataPoints = Int64(decoder.rejected)
            response.partialSuccess.errorMessage = reason
        }
    }

    private func offer(_ decoder: RecordDecoder) throws(OTLPFault) {
        guard decoder.isWithinLimit else {
            throw OTLPFault(
                .resourceExhausted,
                "the request has more than \(OTLPLimits.recordsMax) records, or its resources have too many attributes; send fewer records at once"
            )
        }
        var records = decoder.records
        records.metrics = deltas.gains(records.metrics)
        guard records.count == 0 || intake.offer(records) else {
            throw OTLPFault(.unavailable, "more telemetry comes than can be written; send it again in a second")
        }
    }

    // MARK: From workers

    /// Decodes what a worker of the engine sent as OTLP/JSON.
    ///
    /// - Throws: `ServiceError` `.invalid` where it is none.
    package static func records(
        _ signal: TelemetrySignal,
        fromWorker body: [UInt8],
        pipeline: String?,
        function: String?
    ) throws -> TelemetryRecords {
        var decoder = RecordDecoder(origin: .worker(pipeline: pipeline, function: function))
        do {
            switch signal {
            case .traces: decoder.add(try decode(OTLPTraceRequest.self, body, .json))
            case .logs: decoder.add(try decode(OTLPLogsRequest.self, body, .json))
            case .metrics: decoder.add(try decode(OTLPMetricsRequest.self, body, .json))
            }
        } catch {
            throw ServiceError(.invalid, error.message, fix: "send OTLP/JSON")
        }
        return decoder.records
    }

    // MARK: Encodings

    private static func inflated(_ body: [UInt8], _ encoding: String?) throws(OTLPFault) -> [UInt8] {
        switch encoding?.lowercased() {
        case nil, "", "identity": return body
        case "gzip", "x-gzip", "deflate": return try Inflater.inflate(body, limit: OTLPLimits.messageBytesMax)
        case let other?:
            throw OTLPFault(.unimplemented, "a body in the encoding '\(other.prefix(40))' cannot be read; use gzip")
        }
    }

    /// Counts bytes being decoded, and refuses more than fit.
    private func whileDecoding<T>(_ bytes: Int, _ body: () throws -> T) throws -> T {
        let hasRoom = decoding.withLock { sum in
            guard sum == 0 || sum + bytes <= OTLPLimits.decodingBytesMax else { return false }
            sum += bytes
            return true
        }
        guard hasRoom else {
            throw OTLPFault(.unavailable, "too many large requests are being read; send it again in a second")
        }
        defer { decoding.withLock { $0 -= bytes } }
        return try body()
    }

    private static func decode<Request: Message>(
        _ type: Request.Type,
        _ bytes: [UInt8],
        _ format: OTLPFormat
    ) throws(OTLPFault) -> Request {
        do {
            switch format {
            case .protobuf: return try Request(serializedBytes: bytes)
            case .json:
                var options = JSONDecodingOptions()
                options.ignoreUnknownFields = true
                return try Request(jsonUTF8Bytes: bytes, options: options)
            }
        } catch {
            let what = format == .json ? "OTLP/JSON" : "an OTLP protobuf message"
            throw OTLPFault(.invalidArgument, "the body is not \(what): \(error)")
        }
    }

    private static func encode(_ message: some Message, _ format: OTLPFormat) throws -> [UInt8] {
        switch format {
        case .protobuf: try message.serializedBytes()
        case .json: try message.jsonUTF8Bytes()
        }
    }

    private static func status(_ fault: OTLPFault, _ format: OTLPFormat) -> [UInt8] {
        let status = Google_Rpc_Status.with {
            $0.code = fault.code.rawValue
            $0.message = fault.message
        }
        // A message of a number and a text can always be written.
        return (try? encode(status, format)) ?? []
    }
}
