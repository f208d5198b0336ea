// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import OTLP

/// What became of one request.
enum ExportResult: Sendable, Equatable {
    /// Taken, but for so many records, with the reason.
    case taken(rejected: Int, reason: String)
    /// Not now; the endpoint may have said after how many seconds.
    case later(reason: String, seconds: Double?)
    /// Not this request, however often it is sent.
    case refused(reason: String)
}

/// A request of any of the three signals.
enum ExportRequest: Sendable {
    case traces(OTLPTraceRequest)
    case logs(OTLPLogsRequest)
    case metrics(OTLPMetricsRequest)
}

/// A way to send requests; one call is one try.
protocol ExportTransport: Sendable {
    func send(_ request: ExportRequest) async -> ExportResult
}
