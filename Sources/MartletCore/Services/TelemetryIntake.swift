// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// The three signals of OpenTelemetry.
package enum TelemetrySignal: String, Sendable, CaseIterable {
    case traces
    case logs
    case metrics
}

/// Spans, log records and metric points that belong together.
package struct TelemetryRecords: Sendable, Equatable {
    package var spans: [SpanRecord]
    package var logs: [LogRecord]
    package var metrics: [MetricPoint]

    package init(spans: [SpanRecord] = [], logs: [LogRecord] = [], metrics: [MetricPoint] = []) {
        self.spans = spans
        self.logs = logs
        self.metrics = metrics
    }

    /// Records of all three kinds.
    package var count: Int { spans.count + logs.count + metrics.count }
}

/// A sink that says whether it has room, for senders that can wait and send again.
package protocol TelemetryIntake: TelemetrySink {
    /// Takes all records or none; never blocks.
    ///
    /// - Returns: Whether they were taken. Those refused here are not counted as dropped: whoever sent them still has them.
    func offer(_ records: TelemetryRecords) -> Bool
}

/// The two encodings of OTLP messages over HTTP.
package enum OTLPFormat: String, Sendable {
    case protobuf = "application/x-protobuf"
    case json = "application/json"
}

/// What an OTLP sender is told: a message in the encoding it used.
package struct OTLPAnswer: Sendable, Equatable {
    /// HTTP status: 200, 400, 413 or 503.
    package var status: Int
    /// The signal's response message, or a `google.rpc.Status`.
    package var body: [UInt8]
    /// Seconds after which sending again makes sense.
    package var retryAfter: Int?

    package init(status: Int, body: [UInt8], retryAfter: Int? = nil) {
        self.status = status
        self.body = body
        self.retryAfter = retryAfter
    }
}

/// Takes what OpenTelemetry's SDKs and collectors send.
package protocol OTLPServices: Sendable {
    /// Takes the body of an OTLP/HTTP request.
    ///
    /// - Parameters:
    ///   - signal: What the body holds.
    ///   - body: The bytes as sent.
    ///   - format: Encoding of the body, and so of the answer.
    ///   - contentEncoding: `gzip`, `deflate`, `identity` or nil.
    /// - Returns: What to answer; a refusal too.
    func receive(
        _ signal: TelemetrySignal,
        _ body: [UInt8],
        format: OTLPFormat,
        contentEncoding: String?
    ) -> OTLPAnswer

    /// A refusal that was decided elsewhere, as a `google.rpc.Status`.
    func refusal(_ error: ServiceError, format: OTLPFormat) -> [UInt8]
}
