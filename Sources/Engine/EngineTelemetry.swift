// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore
import Telemetry

/// Telemetry as the API offers it: what is stored, and for metrics also what instruments hold now.
struct EngineTelemetry: TelemetryServices {
    let store: TelemetryStore
    let registry: MetricRegistry
    let collector: MetricCollector

    func logs(_ query: LogQuery) async throws -> Page<LogRecord> { try await store.logs(query) }

    func traces(_ query: TraceQuery) async throws -> [TraceSummary] { try await store.traces(query) }

    func trace(_ traceID: String) async throws -> (spans: [SpanRecord], logs: [LogRecord]) {
        try await store.trace(traceID)
    }

    func metricNames(_ query: MetricNameQuery) async throws -> [MetricName] {
        await collector.refresh()
        return try await store.metricNames(query)
    }

    func metrics(_ query: MetricQuery) async throws -> MetricAnswer {
        await collector.refresh()
        return try await store.metrics(query)
    }

    func exposition(_ form: MetricExposition) async throws -> [UInt8] {
        PrometheusText.bytes(await registry.snapshot(), form)
    }
}
