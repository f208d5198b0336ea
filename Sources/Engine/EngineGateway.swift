// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Foundation
import KafkaCodec
import Lake
import MartletCore
import OTLP
import Pipelines
import WorkerGateway
import Workers

/// What workers ask for, answered by the engine's parts.
struct EngineGateway: GatewayServices {
    let lake: Lake
    let telemetry: any TelemetrySink
    let producer: RecordProducer
    let broker: String
    let metrics: MetricRegistry
    private let deltas = CumulativeDeltas()

    init(lake: Lake, telemetry: any TelemetrySink, producer: RecordProducer, broker: String, metrics: MetricRegistry) {
        self.lake = lake
        self.telemetry = telemetry
        self.producer = producer
        self.broker = broker
        self.metrics = metrics
    }

    func commitTables(_ body: [UInt8], from worker: WorkerRegistry.Context) async throws -> [UInt8] {
        let started = Timestamp.nowMicroseconds()
        let transaction: TableTransaction
        do { transaction = try TableTransaction.decode(body) } catch { throw error.asServiceError }
        do {
            let result = try await lake.commit(transaction)
            record(transaction, started, worker, error: nil, result)
            measure(result, micros: Timestamp.nowMicroseconds() - started)
            let tables = result.tables.map { table in
                JSONObject.Member(
                    key: table.name,
                    value: .object(
                        JSONObject(members: [
                            .init(key: "upserted", value: .int(Int64(table.counts.upserted))),
                            .init(key: "deleted", value: .int(Int64(table.counts.deleted))),
                        ])
                    )
                )
            }
            let answer = JSONObject(members: [.init(key: "tables", value: .object(JSONObject(members: tables)))])
            return JSONValue.object(answer).bytes
        } catch {
            record(transaction, started, worker, error: "\(error)", nil)
            throw error.asServiceError
        }
    }

    func emit(topic: String, events: [CloudEvent], from worker: WorkerRegistry.Context) async throws -> Int {
        let now = Timestamp.nowMicroseconds() / 1000
        let records = events.map { event in
            var event = event
            event.subject = event.subject ?? "\(broker).\(topic)"
            return Record(event: event, key: event[extension: "partitionkey"].map { Array($0.utf8) }, timestamp: now)
        }
        guard !topic.hasPrefix("__") else {
            throw ServiceError.invalid(
                field: "topic",
                "'\(topic.prefix(60))' is one of the engine's own",
                fix: "emit to a topic of yours"
            )
        }
        do { return try await producer.send(records, topic: topic).count } catch { throw error.asServiceError }
    }

    func telemetry(_ signal: TelemetrySignal, _ body: [UInt8], from worker: WorkerRegistry.Context) throws {
        let records = try OTLPReceiver.records(
            signal,
            fromWorker: body,
            pipeline: worker.pipeline,
            function: worker.function
        )
        switch signal {
        case .traces: telemetry.record(spans: records.spans)
        case .logs: telemetry.record(logs: records.logs)
        case .metrics:
            telemetry.record(
                metrics: deltas.gains(records.metrics).map { point in
                    var point = point
                    point.attributes["function_deployment_name"] = worker.deployment
                    return point
                }
            )
        }
    }

    private func measure(_ result: TableCommitResult, micros: Int64) {
        for table in result.tables {
            metrics.histogram(EngineMetrics.tableCommitDuration, ["table": table.name]).record(micros)
            for (operation, count) in [("upserted", table.counts.upserted), ("deleted", table.counts.deleted)]
            where count > 0 {
                let labels = ["table": table.name, "operation": operation]
                metrics.counter(EngineMetrics.tableRows, labels).add(Int64(count))
            }
        }
    }

    /// The last hop of a trace: the rows.
    private func record(
        _ transaction: TableTransaction,
        _ started: Int64,
        _ worker: WorkerRegistry.Context,
        error: String?,
        _ result: TableCommitResult?
    ) {
        guard let header = transaction.traceparent, let trace = TraceContext(traceparent: Array(header.utf8)) else {
            return
        }
        var span = SpanRecord(
            traceId: trace.traceID,
            spanId: TraceContext.text(UInt64.random(in: 1 ... .max)),
            parentSpanId: trace.spanText,
            name: "tables commit",
            kind: "CLIENT",
            startMicros: started,
            durationMicros: Timestamp.nowMicroseconds() - started,
            status: error == nil ? "OK" : "ERROR",
            statusMessage: error,
            pipeline: worker.pipeline,
            function: worker.function
        )
        for table in result?.tables ?? [] {
            span.attributes["martlet.table.\(table.name)"] =
                "\(table.counts.upserted) upserted, \(table.counts.deleted) deleted"
        }
        telemetry.record(spans: [span])
    }
}
