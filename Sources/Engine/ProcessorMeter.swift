// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Synchronization

/// How much of the processors was idle lately, from /proc/stat.
final class ProcessorMeter: Sendable {
    private struct State {
        var idle: UInt64 = 0
        var total: UInt64 = 0
        var share = 1.0
    }

    private let state = Mutex(State())

    /// Idle share over the last interval, 0...1.
    var idleShare: Double { state.withLock { $0.share } }

    /// Measures every second until cancelled.
    func run() async {
        while !Task.isCancelled {
            measure()
            do { try await Task.sleep(for: .seconds(1)) } catch { return }
        }
    }

    private func measure() {
        guard let text = try? String(contentsOfFile: "/proc/stat", encoding: .utf8),
            let line = text.split(separator: "\n").first
        else { return }
        let fields = line.split(separator: " ").dropFirst().compactMap { UInt64($0) }
        guard fields.count > 4 else { return }
        let idle = fields[3] + fields[4]
        let total = fields.reduce(0, +)
        state.withLock { state in
            if state.total > 0, total > state.total {
                state.share = Double(idle &- state.idle) / Double(total - state.total)
            }
            state.idle = idle
            state.total = total
        }
    }
}
