// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import DuckDB
internal import MartletCore

/// A thread that interrupts queries whose time is over, which also makes up for an interrupt that came before a query began.
// SAFETY: every variable below is read and written with `condition` locked.
final class QueryWatchdog: @unchecked Sendable {
    private let condition = ThreadCondition()
    private var channels: [ObjectIdentifier: QueryChannel] = [:]
    private var isRunning = false

    func add(_ channel: QueryChannel) {
        let mustStart = condition.withLock {
            channels[ObjectIdentifier(channel)] = channel
            condition.signal()
            defer { isRunning = true }
            return !isRunning
        }
        if mustStart { startThread(name: "lake-watchdog") { [self] in run() } }
    }

    func remove(_ channel: QueryChannel) {
        condition.withLock {
            channels[ObjectIdentifier(channel)] = nil
            condition.signal()
        }
    }

    /// Looks every 20 ms while there are queries and ends when there are none.
    private func run() {
        while true {
            let current = condition.withLock { () -> [QueryChannel]? in
                _ = condition.wait(nanoseconds: 20_000_000)
                if channels.isEmpty {
                    isRunning = false
                    return nil
                }
                return Array(channels.values)
            }
            guard let current else { return }
            let now = ContinuousClock.now
            for channel in current {
                if let reason = channel.stopReason {
                    channel.interrupt(reason)
                } else if now >= channel.deadline {
                    channel.interrupt(LakeError(.timeout, "The query was stopped because its time limit is over."))
                }
            }
        }
    }
}
