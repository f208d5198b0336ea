// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Foundation

/// What `logs get` may ask.
package struct LogQuery: Sendable, Equatable {
    package var pipeline: String?
    package var function: String?
    package var since: Date?
    package var end: Date?
    /// 1...10_000; the newest are returned where there are more.
    package var limit: Int
    package var ascending: Bool
    /// Lowest severity, under any of its names (WARN, WARNING, FATAL, CRITICAL…).
    package var severity: String?
    /// `user`, `runtime`, `vast-runtime` or `engine`.
    package var scope: String?
    package var traceID: String?
    package var spanID: String?
    /// Substring of the message.
    package var contains: String?
    /// Only records stored after this one; what a tail passes back.
    package var cursor: String?

    package init(limit: Int = 100, ascending: Bool = true) {
        self.limit = limit
        self.ascending = ascending
    }
}

/// One log record.
package struct LogRecord: Sendable, Codable, Equatable {
    package var time: Date
    package var severity: String
    package var scope: String
    package var pipeline: String?
    package var function: String?
    package var message: String
    package var traceId: String?
    package var spanId: String?
    package var attributes: [String: String]

    package init(
        time: Date,
        severity: String,
        scope: String,
        pipeline: String? = nil,
        function: String? = nil,
        message: String,
        traceId: String? = nil,
        spanId: String? = nil,
        attributes: [String: String] = [:]
    ) {
        self.time = time
        self.severity = severity
        self.scope = scope
        self.pipeline = pipeline
        self.function = function
        self.message = message
        self.traceId = traceId
        self.spanId = spanId
        self.attributes = attributes
    }
}

/// One hop of a trace.
package struct SpanRecord: Sendable, Codable, Equatable {
    /// Something that happened inside a span.
    package struct Event: Sendable, Codable, Equatable {
        package var name: String
        package var time: Date
        package var attributes: [String: String]

        package init(name: String, time: Date, attributes: [String: String]) {
            self.name = name
            self.time = time
            self.attributes = attributes
        }
    }

    /// 32 lower-case hex digits.
    package var traceId: String
    /// 16 lower-case hex digits.
    package var spanId: String
    package var parentSpanId: String?
    package var name: String
    /// INTERNAL, SERVER, CLIENT, PRODUCER or CONSUMER.
    package var kind: String
    /// Microseconds since 1970.
    package var startMicros: Int64
    package var durationMicros: Int64
    /// UNSET, OK or ERROR.
    package var status: String
    package var statusMessage: String?
    package var pipeline: String?
    package var function: String?
    package var eventId: String?
    package var eventType: String?
    package var attributes: [String: String]
    package var events: [Event]

    package init(
        traceId: String,
        spanId: String,
        parentSpanId: String? = nil,
        name: String,
        kind: String = "INTERNAL",
        startMicros: Int64,
        durationMicros: Int64,
        status: String = "UNSET",
        statusMessage: String? = nil,
        pipeline: String? = nil,
        function: String? = nil,
        eventId: String? = nil,
        eventType: String? = nil,
        attributes: [String: String] = [:],
        events: [Event] = []
    ) {
        self.traceId = traceId
        self.spanId = spanId
        self.parentSpanId = parentSpanId
        self.name = name
        self.kind = kind
        self.startMicros = startMicros
        self.durationMicros = durationMicros
        self.status = status
        self.statusMessage = statusMessage
        self.pipeline = pipeline
        self.function = function
        self.eventId = eventId
        self.eventType = eventType
        self.attributes = attributes
        self.events = events
    }
}

/// What `traces list` may ask.
package struct TraceQuery: Sendable, Equatable {
    package var pipeline: String?
    package var since: Date?
    package var end: Date?
    package var eventID: String?
    package var eventType: String?
    /// UNSET, OK or ERROR.
    package var status: String?
    package var limit: Int
    package var ascending: Bool

    package init(limit: Int = 20, ascending: Bool = false) {
        self.limit = limit
        self.ascending = ascending
    }
}

/// One trace in a list.
package struct TraceSummary: Sendable, Codable, Equatable {
    package var traceId: String
    package var start: Date
    package var durationMicros: Int64
    package var status: String
    package var pipeline: String?
    package var functions: [String]
    package var eventId: String?
    package var eventType: String?
    package var spans: Int
    package var depth: Int

    package init(
        traceId: String,
        start: Date,
        durationMicros: Int64,
        status: String,
        pipeline: String?,
        functions: [String],
        eventId: String?,
        eventType: String?,
        spans: Int,
        depth: Int
    ) {
        self.traceId = traceId
        self.start = start
        self.durationMicros = durationMicros
        self.status = status
        self.pipeline = pipeline
        self.functions = functions
        self.eventId = eventId
        self.eventType = eventType
        self.spans = spans
        self.depth = depth
    }
}

/// Where services leave spans, log records, metric points and events of the engine; never blocks and never throws.
package protocol TelemetrySink: Sendable {
    func record(spans: [SpanRecord])
    func record(logs: [LogRecord])
    func record(metrics: [MetricPoint])
    func record(events: [EngineEvent])

    /// Whether records of a kind are kept anywhere; those of others need not be made.
    func wants(_ signal: TelemetrySignal) -> Bool

    /// Whether so many more spans can be kept now; where not, only those of ``SpanSample`` are worth making.
    func hasRoom(spans count: Int) -> Bool

    /// Counts spans that were not made for lack of room.
    func skipped(spans count: Int)
}

extension TelemetrySink {
    /// Drops them: not every sink is about the engine itself.
    package func record(events: [EngineEvent]) {}
    package func wants(_ signal: TelemetrySignal) -> Bool { true }
    package func hasRoom(spans count: Int) -> Bool { true }
    package func skipped(spans count: Int) {}
}

/// Which spans stay when more come than are worth their cost: those that failed, and every sixteenth trace.
package enum SpanSample {
    /// Whether a trace is one that stays, by its id, so that it stays whole.
    package static func holds(traceID: String) -> Bool { traceID.utf8.last == UInt8(ascii: "0") }

    /// The same, by the lower half of the id.
    package static func holds(traceLow: UInt64) -> Bool { traceLow & 15 == 0 }
}

/// Questions about what happened.
package protocol TelemetryServices: MetricServices {
    func logs(_ query: LogQuery) async throws -> Page<LogRecord>
    func traces(_ query: TraceQuery) async throws -> [TraceSummary]
    /// All spans of a trace in start order, with the log records inside it.
    func trace(_ traceID: String) async throws -> (spans: [SpanRecord], logs: [LogRecord])
}
