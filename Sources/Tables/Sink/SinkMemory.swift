// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// The memory that all sinks share, and how it is divided.
///
/// Half of it is for rows that are in no file yet, the rest for what is fetched from topics and for writing files. A sink that finds
/// none left takes no records until others give some back: records wait in the topic. The sink that has most is then asked to commit.
final class SinkMemory: Sendable {
    /// Bytes all sinks may take together.
    let limit: Int
    private let state = Mutex(State())

    private struct State {
        var used = 0
        var accounts: [ObjectIdentifier: Account] = [:]
        var feedsBehind = 0
        /// Of the widest table.
        var columns = 0
    }

    /// Divides `limit` bytes.
    init(limit: Int) {
        self.limit = limit
    }

    /// What is divided.
    ///
    /// Writing files takes some memory however few the rows are: DuckDB works on 2,048 at once, in several steps. One file is written at
    /// a time, so the widest table counts.
    private var divided: Int {
        let columns = state.withLock { $0.columns }
        return max(limit / 4, limit - 16 << 20 - columns * Self.columnBytes)
    }
    private static let columnBytes = 3 * 2048 * 16
    /// What rows of all sinks may take.
    private var rowsMax: Int { divided / 2 }
    /// What one sink has in memory when it commits.
    var commitMax: Int { divided / 4 }
    /// What one batch may take.
    var batchMax: Int { divided / 16 }
    /// What a group of rows may take while it is written to a file.
    var groupMax: Int { divided / 16 }

    // MARK: Accounts

    /// What one sink has of the memory.
    final class Account: Sendable {
        enum Phase { case idle, committing, failing }

        fileprivate struct State {
            var bytes = 0
            var columns = 0
            var phase = Phase.idle
            var isWaiting = false
            var isAsked = false
        }

        let memory: SinkMemory
        fileprivate let state = Mutex(State())
        fileprivate let mailbox: SinkMailbox
        fileprivate let pool: BatchPool

        init(_ memory: SinkMemory, mailbox: SinkMailbox, pool: BatchPool) {
            self.memory = memory
            self.mailbox = mailbox
            self.pool = pool
        }

        /// Says how many columns the table has.
        func note(columns: Int) {
            let isNew = state.withLock { state in
                defer { state.columns = columns }
                return state.columns != columns
            }
            if isNew { memory.noteColumns() }
        }

        /// Says how the sink's commits are doing, which is what gives memory back.
        func note(_ phase: Phase) {
            state.withLock { state in
                state.phase = phase
                state.isAsked = false
            }
        }
    }

    fileprivate func noteColumns() {
        let accounts = state.withLock { Array($0.accounts.values) }
        let most = accounts.map { $0.state.withLock { $0.columns } }.max() ?? 0
        state.withLock { $0.columns = most }
    }

    func open(_ account: Account) { state.withLock { $0.accounts[ObjectIdentifier(account)] = account } }
    func close(_ account: Account) { state.withLock { $0.accounts[ObjectIdentifier(account)] = nil } }

    /// Memory that somebody has; given back with the last reference.
    final class Charge: Sendable {
        private let account: Account
        fileprivate let held = Mutex<Int>(0)

        fileprivate init(_ account: Account) {
            self.account = account
        }

        deinit { set(0) }

        var bytes: Int { held.withLock { $0 } }

        /// Makes it so many bytes, whether there are so many or not.
        func set(_ bytes: Int) {
            let change = held.withLock { held in
                defer { held = bytes }
                return bytes - held
            }
            account.memory.add(change, to: account)
        }

        /// Makes it so many bytes where there are so many.
        func grow(to bytes: Int) -> Bool {
            held.withLock { held in
                guard bytes > held else { return true }
                guard account.memory.take(bytes - held, for: account, floor: 0) else { return false }
                held = bytes
                return true
            }
        }
    }

    /// Nothing yet, of an account.
    func charge(_ account: Account) -> Charge { Charge(account) }

    /// Memory for a batch of at most `bytes`, or nil where there is none; the sink gets ``SinkMessage/room`` once there is.
    ///
    /// A sink that has nothing gets a little in any case, so that it goes on while others hold what they cannot commit.
    func reserve(_ bytes: Int, for account: Account) -> Charge? {
        for size in [bytes, Self.floor] where size <= bytes {
            let charge = Charge(account)
            if take(size, for: account, floor: size <= Self.floor ? size : 0) {
                charge.adopt(size)
                return charge
            }
        }
        runShort(account)
        return nil
    }

    private static let floor = 1 << 20

    private func take(_ bytes: Int, for account: Account, floor: Int) -> Bool {
        let rowsMax = rowsMax
        let isGranted = state.withLock { state in
            let isFirst = floor >= bytes && account.state.withLock { $0.bytes == 0 }
            guard state.used + bytes <= rowsMax || isFirst else { return false }
            state.used += bytes
            return true
        }
        if isGranted { account.state.withLock { $0.bytes += bytes } }
        return isGranted
    }

    private func add(_ bytes: Int, to account: Account) {
        guard bytes != 0 else { return }
        account.state.withLock { $0.bytes += bytes }
        let accounts = state.withLock { state -> [Account] in
            state.used += bytes
            return bytes < 0 ? Array(state.accounts.values) : []
        }
        for account in accounts {
            let isWaiting = account.state.withLock { state in
                defer { state.isWaiting = false }
                return state.isWaiting
            }
            if isWaiting { account.mailbox.post(.room) }
        }
    }

    /// Finds memory for somebody who waits: what is kept for later, then what the largest sink can commit.
    private func runShort(_ account: Account) {
        account.state.withLock { $0.isWaiting = true }
        let accounts = state.withLock { Array($0.accounts.values) }
        for account in accounts { account.pool.empty() }
        let states = accounts.map { account in (account, account.state.withLock { $0 }) }
        // A commit under way gives back what it writes.
        guard !states.contains(where: { $0.1.phase == .committing }) else { return }
        let idle = states.filter { $0.1.phase == .idle && $0.1.bytes > 0 }
        guard let (largest, state) = idle.max(by: { $0.1.bytes < $1.1.bytes }), !state.isAsked else { return }
        largest.state.withLock { $0.isAsked = true }
        largest.mailbox.post(.due)
    }

    // MARK: Fetching

    /// Bytes one feed may fetch at once, one of `count` of its topic; twice as much may be on its way.
    func fetchMax(of count: Int32) -> Int {
        let behind = state.withLock { $0.feedsBehind }
        return max(64 << 10, min(divided / 32 / Int(max(1, count)), divided / 16 / max(1, behind)))
    }

    /// Counts the feeds whose topics have more for them than they fetch.
    func note(feedsBehind change: Int) { state.withLock { $0.feedsBehind += change } }
}

extension SinkMemory.Charge {
    fileprivate func adopt(_ bytes: Int) { held.withLock { $0 = bytes } }
}
