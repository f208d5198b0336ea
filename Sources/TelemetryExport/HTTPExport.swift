// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import AsyncHTTPClient
import Foundation
import MartletCore
import NIOCore
import NIOHTTP1
import OTLP
import SwiftProtobuf

/// OTLP/HTTP with protobuf bodies.
struct HTTPExport: ExportTransport {
    private static let timeout = TimeAmount.seconds(10)
    private static let answerBytesMax = 1 << 20

    let client: HTTPClient
    let address: String
    let headers: [ExportSettings.Header]

    func send(_ request: ExportRequest) async -> ExportResult {
        do {
            switch request {
            case .traces(let message):
                return try await post("traces", message) { (answer: OTLPTraceResponse) in
                    (answer.partialSuccess.rejectedSpans, answer.partialSuccess.errorMessage)
                }
            case .logs(let message):
                return try await post("logs", message) { (answer: OTLPLogsResponse) in
                    (answer.partialSuccess.rejectedLogRecords, answer.partialSuccess.errorMessage)
                }
            case .metrics(let message):
                return try await post("metrics", message) { (answer: OTLPMetricsResponse) in
                    (answer.partialSuccess.rejectedDataPoints, answer.partialSuccess.errorMessage)
                }
            }
        } catch {
            return .later(reason: "\(error)", seconds: nil)
        }
    }

    private func post<Answer: Message>(
        _ signal: String,
        _ message: some Message,
        _ rejected: (Answer) -> (Int64, String)
    ) async throws -> ExportResult {
        var request = HTTPClientRequest(url: "\(address)/v1/\(signal)")
        request.method = .POST
        request.headers.add(name: "content-type", value: OTLPFormat.protobuf.rawValue)
        request.headers.add(name: "user-agent", value: "martlet-otlp-exporter")
        for header in headers { request.headers.replaceOrAdd(name: header.name, value: header.value) }
        let bytes: [UInt8] = try message.serializedBytes()
        request.body = .bytes(bytes)
        let response = try await client.execute(request, timeout: Self.timeout)
        let body = Array(buffer: try await response.body.collect(upTo: Self.answerBytesMax))
        switch response.status.code {
        case 200..<300:
            // Whatever else a success carries is of no matter here.
            guard let answer = try? Answer(serializedBytes: body) else { return .taken(rejected: 0, reason: "") }
            let (count, reason) = rejected(answer)
            return .taken(rejected: Int(clamping: count), reason: reason)
        case 429, 502, 503, 504:
            let seconds = response.headers.first(name: "retry-after").flatMap { Double($0) }
            return .later(reason: "HTTP status \(response.status.code)", seconds: seconds)
        default:
            let said = (try? Google_Rpc_Status(serializedBytes: body))?.message ?? ""  // Not every endpoint sends one.
            return .refused(reason: "HTTP status \(response.status.code) \(said.prefix(300))")
        }
    }
}
