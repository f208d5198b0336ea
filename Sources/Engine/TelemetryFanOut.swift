// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Logging
import MartletCore
import Telemetry
import TelemetryExport

/// Leaves what the engine and its functions report with the store, and with the exporter where there is one.
///
/// What comes from outside by OTLP does not pass here: it goes to the store alone, so that nothing is ever sent back or round in circles.
struct TelemetryFanOut: TelemetrySink {
    let store: TelemetryStore
    let exporter: TelemetryExporter?
    /// What the settings want to have at all.
    let signals: Set<TelemetrySignal>

    func wants(_ signal: TelemetrySignal) -> Bool { signals.contains(signal) }

    /// An exporter takes more than the store keeps.
    func hasRoom(spans count: Int) -> Bool { exporter != nil || store.hasRoom(spans: count) }

    func skipped(spans count: Int) { store.skipped(spans: count) }

    func record(spans: [SpanRecord]) {
        guard wants(.traces) else { return }
        store.record(spans: spans)
        exporter?.record(spans: spans)
    }

    func record(logs: [LogRecord]) {
        guard wants(.logs) else { return }
        store.record(logs: logs)
        exporter?.record(logs: logs)
    }

    func record(metrics: [MetricPoint]) {
        guard wants(.metrics) else { return }
        store.record(metrics: metrics)
        exporter?.record(metrics: metrics)
    }

    /// The engine's own events stay with it: OTLP has no form of their own for them.
    func record(events: [EngineEvent]) { store.record(events: events) }
}

extension TelemetryExporter {
    /// The exporter the settings ask for, or nil.
    convenience init?(_ configuration: EngineConfiguration, _ logger: Logger) throws {
        let settings = try ExportSettings.read(
            endpoint: configuration.exportEndpoint,
            headers: configuration.exportHeaders,
            signals: configuration.exportSignals,
            certificate: configuration.exportCertificate,
            environment: ProcessInfo.processInfo.environment
        )
        guard let settings else { return nil }
        self.init(settings: settings, version: Engine.version, logger: logger)
    }
}
