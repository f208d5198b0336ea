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

    func record(spans: [SpanRecord]) {
        store.record(spans: spans)
        exporter?.record(spans: spans)
    }

    func record(logs: [LogRecord]) {
        store.record(logs: logs)
        exporter?.record(logs: logs)
    }

    func record(metrics: [MetricPoint]) {
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
