// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore
import Workers

/// What the dispatch core knows of one worker.
struct WorkerState {
    /// Where a worker stands.
    enum Phase: Equatable {
        case starting
        case ready
        case stopping(sinceMicros: Int64)
    }

    /// A request that is open, by position in it.
    struct Request {
        var ids: [Int]
        /// Still without result.
        var unfinished: Int
        /// Last known as inside the handler.
        var running: Set<Int> = []
    }

    /// Events sent ahead of those that run, as time the worker would need for them.
    private static let queueMicros = 50_000
    private static let windowMax = 1024

    var phase = Phase.starting
    var requests: [Int: Request] = [:]
    var inFlight = 0
    /// It runs one isolated event and gets nothing else.
    var isExclusive = false
    /// It gets nothing more until it is empty, then an isolated event.
    var isReserved = false
    /// Since when, and how, it breaks the worker protocol.
    var broken: (sinceMicros: Int64, why: String)?
    /// It has finished an event.
    var hasWorked = false
    var lastActiveMicros: Int64
    /// When it last said anything while it had work.
    var lastHeardMicros: Int64
    /// Handler time of one call, smoothed.
    private(set) var handlerMicros: Double?

    init(nowMicros: Int64) {
        lastActiveMicros = nowMicros
        lastHeardMicros = nowMicros
    }

    mutating func measured(micros: Int64) {
        let value = Double(max(micros, 1))
        handlerMicros = handlerMicros.map { $0 * 0.9 + value * 0.1 } ?? value
    }

    /// Events it may hold: those it runs at once, and as many as keep it busy until the next batch arrives.
    func window(concurrency: Int) -> Int {
        guard let handlerMicros else { return concurrency }
        let ahead = Double(concurrency * Self.queueMicros) / handlerMicros
        return max(concurrency, min(Self.windowMax, concurrency + Int(min(ahead, Double(Self.windowMax)))))
    }

    /// How many more events to send now; small gaps are left until a worthwhile batch fits.
    func room(concurrency: Int) -> Int {
        guard phase == .ready, !isExclusive, !isReserved else { return 0 }
        let window = window(concurrency: concurrency)
        let free = window - inFlight
        return free * 4 >= window || inFlight < concurrency ? max(free, 0) : 0
    }
}

/// Spaces out attempts to start workers that fail to start.
struct StartBackoff {
    private(set) var failures = 0
    private var notBeforeMicros: Int64 = 0

    mutating func failed(nowMicros: Int64) {
        failures += 1
        notBeforeMicros = nowMicros + Int64(min(1 << min(failures - 1, 6), 60)) * 1_000_000
    }

    mutating func succeeded() {
        failures = 0
        notBeforeMicros = 0
    }

    func allows(nowMicros: Int64) -> Bool { nowMicros >= notBeforeMicros }
}

/// Completions a second, over the last ticks.
struct CompletionRate {
    private var count = 0
    private var sinceMicros: Int64 = 0
    private(set) var perSecond = 0.0

    mutating func add(_ completed: Int) { count += completed }

    mutating func tick(nowMicros: Int64) {
        guard nowMicros - sinceMicros >= 500_000 else { return }
        if sinceMicros > 0 { perSecond = Double(count) * 1_000_000 / Double(nowMicros - sinceMicros) }
        count = 0
        sinceMicros = nowMicros
    }
}
