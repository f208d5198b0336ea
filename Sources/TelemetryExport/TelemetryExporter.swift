// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import AsyncHTTPClient
import GRPCCore
import GRPCNIOTransportHTTP2Posix
package import Logging
package import MartletCore
import NIOCore
import NIOSSL
import OTLP
import Synchronization

/// Sends the engine's and its functions' telemetry to an OTLP endpoint.
///
/// Recording never blocks. Records wait in a bounded queue while the endpoint is away, and are dropped when it is full, which is logged
/// once a minute with a count.
package final class TelemetryExporter: TelemetrySink {
    /// How long the queue is left alone where it holds less than a full request.
    private static let pause = Duration.milliseconds(500)
    private static let recordsPerRequest = 2_000
    private static let reportInterval = Duration.seconds(60)
    /// How long a stop waits for what is left.
    private static let drainTime = Duration.seconds(5)

    private struct State {
        var isDraining = false
        /// Signals the endpoint does not take at the moment.
        var away: Set<TelemetrySignal> = []
        /// Why the endpoint last did not take something.
        var reason = ""
    }

    private let settings: ExportSettings
    private let encoder: RecordEncoder
    private let queue: ExportQueue
    private let state = Mutex(State())
    private let logger: Logger

    /// Makes an exporter that sends once it runs; `version` is the engine's.
    package init(settings: ExportSettings, version: String, logger: Logger) {
        self.settings = settings
        encoder = RecordEncoder(serviceName: settings.serviceName, serviceVersion: version)
        queue = ExportQueue(signals: settings.signals)
        var logger = logger
        logger[metadataKey: "endpoint"] = "\(settings.place)"
        self.logger = logger
    }

    package func record(spans: [SpanRecord]) { queue.add(spans: spans) }

    package func record(logs: [LogRecord]) { queue.add(logs: logs) }

    package func record(metrics: [MetricPoint]) { queue.add(metrics: metrics) }

    /// Sends what is recorded until cancelled.
    package func run() async {
        logger.info("telemetry is exported")
        switch settings.transport {
        case .http(let address):
            var configuration = HTTPClient.Configuration.singletonConfiguration
            configuration.timeout.connect = .seconds(5)
            configuration.redirectConfiguration = .disallow
            if let certificate = settings.certificate {
                var security = TLSConfiguration.makeClientConfiguration()
                security.trustRoots = .file(certificate)
                configuration.tlsConfiguration = security
            }
            let client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
            await export(HTTPExport(client: client, address: address, headers: settings.headers))
            try? await client.shutdown()  // Nothing is left that could fail.
        case .grpc(let host, let port, let isEncrypted):
            do {
                let transport = try HTTP2ClientTransport.Posix(
                    target: .dns(host: host, port: port),
                    transportSecurity: isEncrypted
                        ? .tls { security in
                            guard let certificate = settings.certificate else { return }
                            security.trustRoots = .certificates([.file(path: certificate, format: .pem)])
                        } : .plaintext
                )
                try await withGRPCClient(transport: transport) { client in
                    await export(GRPCExport(client: client, headers: settings.headers))
                }
            } catch {
                guard !Task.isCancelled else { break }
                logger.error("telemetry cannot be exported", metadata: ["error": "\(error)"])
            }
        }
        let left = queue.count + queue.takeDropped()
        if left > 0 { logger.warning("telemetry was not exported before the stop", metadata: ["records": "\(left)"]) }
    }

    /// Waits for a few seconds until everything is sent; at once where the endpoint is away.
    package func drain() async {
        state.withLock { $0.isDraining = true }
        let end = ContinuousClock.now + Self.drainTime
        while queue.count > 0, ContinuousClock.now < end, state.withLock({ $0.away.isEmpty }) {
            do { try await Task.sleep(for: .milliseconds(20)) } catch { return }
        }
    }

    // MARK: Sending

    private func export(_ transport: any ExportTransport) async {
        await withTaskGroup(of: Void.self) { group in
            for signal in settings.signals {
                group.addTask { await self.export(signal, transport) }
            }
            group.addTask { await self.reportLosses() }
            await group.waitForAll()
        }
    }

    private func export(_ signal: TelemetrySignal, _ transport: any ExportTransport) async {
        while !Task.isCancelled {
            let records = queue.take(signal, max: Self.recordsPerRequest)
            if records.count > 0 { await send(records, signal, transport) }
            if records.count < Self.recordsPerRequest {
                let isDraining = state.withLock { $0.isDraining }
                try? await Task.sleep(for: isDraining ? .milliseconds(20) : Self.pause)  // Ends early when cancelled.
            }
        }
    }

    /// Sends one request until it is taken, refused or given up.
    private func send(_ records: TelemetryRecords, _ signal: TelemetrySignal, _ transport: any ExportTransport) async {
        let request =
            switch signal {
            case .traces: ExportRequest.traces(encoder.request(spans: records.spans))
            case .logs: ExportRequest.logs(encoder.request(logs: records.logs))
            case .metrics: ExportRequest.metrics(encoder.request(metrics: records.metrics))
            }
        var backoff = Backoff()
        while true {
            switch await transport.send(request) {
            case .taken(let rejected, let reason):
                if rejected > 0 { note(reason) }
                queue.finish(records, dropped: min(rejected, records.count))
                came(back: signal)
                return
            case .refused(let reason):
                note(reason)
                queue.finish(records, dropped: records.count)
                came(back: signal)
                return
            case .later(let reason, let seconds):
                guard !Task.isCancelled else {
                    queue.finish(records, dropped: records.count)
                    return
                }
                went(away: signal, reason)
                try? await Task.sleep(for: backoff.next(asked: seconds))  // Ends early when cancelled.
            }
        }
    }

    // MARK: What the log says

    private func went(away signal: TelemetrySignal, _ reason: String) {
        let isNew = state.withLock { state in
            defer { state.away.insert(signal) }
            state.reason = reason
            return state.away.isEmpty
        }
        if isNew { logger.warning("telemetry waits to be exported", metadata: ["error": "\(reason)"]) }
    }

    private func came(back signal: TelemetrySignal) {
        let isLast = state.withLock { $0.away.remove(signal) != nil && $0.away.isEmpty }
        if isLast { logger.notice("telemetry is exported again") }
    }

    private func note(_ reason: String) {
        state.withLock { $0.reason = reason }
    }

    private func reportLosses() async {
        while !Task.isCancelled {
            do { try await Task.sleep(for: Self.reportInterval) } catch { return }
            let dropped = queue.takeDropped()
            guard dropped > 0 else { continue }
            let reason = state.withLock { $0.reason }
            logger.warning(
                "telemetry was not exported",
                metadata: ["records": "\(dropped)", "error": "\(reason)"]
            )
        }
    }
}
