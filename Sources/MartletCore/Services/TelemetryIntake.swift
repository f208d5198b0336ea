// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// The three signals of OpenTelemetry.
package enum TelemetrySignal: String, Sendable, CaseIterable {
    case traces
    case logs
    case metrics

    /// Reads `traces,logs,metrics` or some of them; `none` is the empty set.
    ///
    /// - Parameters:
    ///   - text: Names with commas between.
    ///   - field: The setting it comes from.
    /// - Returns: The signals.
    /// - Throws: `ServiceError` `.invalid` naming the setting and the name that is none.
    package static func set(_ text: String, field: String) throws -> Set<TelemetrySignal> {
        let names = text.split(separator: ",").map { $0.filter { !$0.isWhitespace }.lowercased() }
        if names == ["none"] { return [] }
        let signals = try names.map { name in
            guard let signal = TelemetrySignal(rawValue: name) else {
                throw ServiceError.invalid(
                    field: field,
                    "'\(name.prefix(40))' is not a signal",
                    fix: "write traces, logs, metrics or some of them with commas between, or none"
                )
            }
            return signal
        }
        guard !signals.isEmpty else {
            throw ServiceError.invalid(
                field: field,
                "is empty",
                fix: "write none where no telemetry is wanted, or leave it out"
            )
        }
        return Set(signals)
    }
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
