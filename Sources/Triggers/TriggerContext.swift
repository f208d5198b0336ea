// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import EventLog
import Logging
import MartletCore

/// What the parts of the runtime share.
struct TriggerContext: Sendable {
    let settings: TriggerSettings
    let catalog: Catalog
    let inventory: ElementInventory
    let log: any EventLog
    let producer: RecordProducer
    let telemetry: any TelemetrySink
    let clock: any TriggerClock
    let board: StatusBoard
    let logger: Logger
    let metrics: MetricRegistry

    var tail: TopicTail { TopicTail(log: log) }
}

/// The clock schedules follow; tests have their own.
package protocol TriggerClock: Sendable {
    /// The wall clock, microseconds since 1970.
    func nowMicros() -> Int64
    /// Waits on a clock that never jumps.
    func sleep(micros: Int64) async throws
}

/// The machine's clocks.
package struct SystemClock: TriggerClock {
    /// Makes the clock.
    package init() {}

    package func nowMicros() -> Int64 { Timestamp.nowMicroseconds() }

    package func sleep(micros: Int64) async throws { try await Task.sleep(for: .microseconds(micros)) }
}

/// Ends one runner without cancelling its neighbours.
final class StopSignal: Sendable {
    private let stream: AsyncStream<Never>
    private let continuation: AsyncStream<Never>.Continuation

    init() { (stream, continuation) = AsyncStream.makeStream() }

    func stop() { continuation.finish() }

    /// Runs `body` until it returns or the signal is given, whichever comes first; then its task is cancelled.
    func whileNotStopped(_ body: @escaping @Sendable () async -> Void) async {
        let stream = stream
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await body() }
            group.addTask { for await _ in stream {} }
            await group.next()
            group.cancelAll()
        }
    }
}
