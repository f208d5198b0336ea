// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DequeModule
import MartletCore
import Synchronization

/// The memory that all sinks share, and how it is divided.
///
/// Half of it is for rows that are in no file yet, the rest for what is fetched from topics and decompressed, and for writing and merging
/// files. A sink that finds none left takes no records until others give some back: records wait in the topic, and sinks in the order
/// they came. The sink that has most is then asked to commit.
package final class SinkMemory: Sendable {
    /// Bytes all sinks may take together.
    package let limit: Int
    private let state = Mutex(State())
    /// Guards ``work`` alone: whoever begins work may have to sleep, on a thread of its own.
    private let workers = ThreadCondition()
    private let work = Mutex<[Work: Int]>([:])

    /// What takes memory for a while, and not to hold rows.
    package enum Work: Sendable { case decompression, merge }

    private struct State {
        var used = 0
        /// Of ``used``, what is granted to sinks that were woken and have not asked again.
        var promised = 0
        /// For ``Work``.
        var working = 0
        var entries: [ObjectIdentifier: Entry] = [:]
        /// Who waits, in the order they came.
        var waiting: Deque<ObjectIdentifier> = []
        var feedsBehind = 0
        /// Of the widest table.
        var columns = 0
    }

    private struct Entry {
        let account: Account
        var bytes = 0
        var columns = 0
        var phase = Account.Phase.idle
        /// What it cannot go on without; nil where it does not wait.
        var least: Int?
        var promised = 0
        var isAsked = false
        /// Whether it was asked and had nothing to commit, since it took memory last.
        var isEmptyHanded = false
    }

    /// Divides `limit` bytes.
    package init(limit: Int) {
        self.limit = limit
    }

    /// What is divided.
    ///
    /// Writing files takes some memory however few the rows are: DuckDB works on 2,048 at once, in several steps. One file is written at
    /// a time, so the widest table counts.
    private func divided(_ columns: Int) -> Int { max(limit / 4, limit - 16 << 20 - columns * Self.columnBytes) }
    private var divided: Int { divided(state.withLock { $0.columns }) }
    private static let columnBytes = 3 * 2048 * 16
    /// What one sink has in memory when it commits.
    var commitMax: Int { divided / 4 }
    /// What one batch may take.
    var batchMax: Int { divided / 16 }
    /// What a group of rows may take while it is written to a file.
    var groupMax: Int { divided / 16 }
    /// What a merge of files may take, half of it for the group of rows it writes.
    var mergeMax: Int { divided * 3 / 16 }
    /// What is granted beyond half of ``divided`` at least, so that sinks with nothing go on while others hold what they cannot commit.
    private static let beyondMin = 2 << 20

    // MARK: Accounts

    /// What one sink has of the memory.
    package final class Account: Sendable {
        /// How the sink's commits are doing, which is what gives memory back.
        package enum Phase: Sendable {
            case idle, committing, failing
            /// No commit gives back what it has: it does so by itself.
            case apart
        }

        /// What a sink is told.
        package enum Notice: Sendable {
            /// There is memory for what it waited for.
            case room
            /// Others wait for what it can commit.
            case due
            /// Others wait for what it keeps for later.
            case letGo
        }

        package let memory: SinkMemory
        fileprivate let tell: @Sendable (Notice) -> Void
        fileprivate var id: ObjectIdentifier { ObjectIdentifier(self) }

        /// Makes an account that has nothing; `tell` is called on any thread and must not block.
        package init(_ memory: SinkMemory, tell: @escaping @Sendable (Notice) -> Void) {
            self.memory = memory
            self.tell = tell
        }

        /// Says how many columns the table has.
        func note(columns: Int) { memory.note(columns: columns, of: self) }

        /// Says how the sink's commits are doing.
        package func note(_ phase: Phase) {
            memory.update(self) { entry in
                entry.phase = phase
                entry.isAsked = false
            }
        }

        /// Says that the sink was asked to commit and has nothing to commit.
        package func noteNothingToCommit() {
            memory.update(self) { entry in
                entry.isEmptyHanded = entry.isEmptyHanded || entry.isAsked
                entry.isAsked = false
            }
        }

        /// Says that the sink has done what it wanted with the room it was told of.
        package func noteWoken() { memory.release(self) }
    }

    /// Counts an account among those that share the memory.
    package func open(_ account: Account) { state.withLock { $0.entries[account.id] = Entry(account: account) } }

    /// Ends that; what it holds stays counted until it is given back.
    package func close(_ account: Account) {
        let notices = state.withLock { state in
            if let entry = state.entries.removeValue(forKey: account.id) { state.promised -= entry.promised }
            return next(&state)
        }
        Self.deliver(notices)
    }

    private func note(columns: Int, of account: Account) {
        state.withLock { state in
            guard var entry = state.entries[account.id], entry.columns != columns else { return }
            entry.columns = columns
            state.entries[account.id] = entry
            state.columns = state.entries.values.map(\.columns).max() ?? 0
        }
    }

    private func update(_ account: Account, _ body: (inout Entry) -> Void) {
        let notices = state.withLock { state -> Notices in
            guard var entry = state.entries[account.id] else { return [] }
            body(&entry)
            state.entries[account.id] = entry
            return next(&state)
        }
        Self.deliver(notices)
    }

    private func release(_ account: Account) {
        let notices = state.withLock { state -> Notices in
            guard Self.takePromise(account, &state) > 0 else { return [] }
            return next(&state)
        }
        Self.deliver(notices)
    }

    @discardableResult
    private static func takePromise(_ account: Account, _ state: inout State) -> Int {
        guard let promised = state.entries[account.id]?.promised, promised > 0 else { return 0 }
        state.entries[account.id]?.promised = 0
        state.promised -= promised
        return promised
    }

    // MARK: Charges

    /// Memory that somebody has; given back with the last reference.
    package final class Charge: Sendable {
        private let account: Account
        private let held: Mutex<Int>

        fileprivate init(_ account: Account, holding bytes: Int = 0) {
            self.account = account
            held = Mutex(bytes)
        }

        deinit { set(0) }

        /// What it holds.
        package var bytes: Int { held.withLock { $0 } }

        /// Makes it so many bytes, whether there are so many or not.
        package func set(_ bytes: Int) {
            let change = held.withLock { held in
                defer { held = bytes }
                return bytes - held
            }
            account.memory.add(change, to: account)
        }

        /// Makes it so many bytes where there are so many.
        package func grow(to bytes: Int) -> Bool {
            held.withLock { held in
                guard bytes > held else { return true }
                guard account.memory.take(bytes - held, for: account) else { return false }
                held = bytes
                return true
            }
        }

        /// Makes another charge of some of the bytes.
        func split(_ bytes: Int) -> Charge {
            held.withLock { held in
                let part = min(bytes, held)
                held -= part
                return Charge(account, holding: part)
            }
        }
    }

    /// Nothing yet, of an account.
    package func charge(_ account: Account) -> Charge { Charge(account) }

    /// Memory of `bytes`, or of `least` where there is no more, or nil where there is not even that; then the sink is told once there is.
    ///
    /// A sink that has nothing gets `least` beyond the limit too, as long as few do, so that it goes on while others hold what they
    /// cannot commit.
    package func reserve(_ bytes: Int, least: Int, for account: Account) -> Charge? {
        let least = min(bytes, least)
        let (granted, notices) = state.withLock { state -> (Int?, Notices) in
            let wasPromised = Self.takePromise(account, &state) > 0
            let isFirst = wasPromised || state.waiting.isEmpty || state.waiting.first == account.id
            let size = isFirst ? self.grant(bytes, least, account.id, state) : nil
            if let size {
                state.used += size
                state.entries[account.id]?.bytes += size
                state.entries[account.id]?.isEmptyHanded = false
                if state.entries[account.id]?.least != nil { self.leave(account, &state) }
                return (size, self.next(&state))
            }
            if state.entries[account.id]?.least == nil {
                // Who was woken in vain stays in front.
                if wasPromised { state.waiting.prepend(account.id) } else { state.waiting.append(account.id) }
            }
            state.entries[account.id]?.least = least
            return (nil, self.next(&state))
        }
        if let granted {
            Self.deliver(notices)
            return Charge(account, holding: granted)
        }
        // What is kept for later goes first.
        let others = state.withLock { $0.entries.values.map(\.account) }
        for other in others { other.tell(.letGo) }
        Self.deliver(notices)
        return nil
    }

    private func leave(_ account: Account, _ state: inout State) {
        state.entries[account.id]?.least = nil
        state.waiting.removeAll { $0 == account.id }
    }

    /// What can be granted of what is asked for; nil where it is nothing.
    private func grant(_ bytes: Int, _ least: Int, _ id: ObjectIdentifier, _ state: State) -> Int? {
        for size in [bytes, least] where fits(size, state) { return size }
        guard state.entries[id]?.bytes == 0 else { return nil }
        let rowsMax = divided(state.columns) / 2
        let beyond = max(Self.beyondMin, rowsMax / 8)
        if state.used + state.promised + least <= rowsMax + beyond { return least }
        // What failing sinks hold does not come back soon: the others share a little beside it.
        let healthy = state.entries.values.reduce(state.promised) {
            $0 + ($1.phase == .failing || $1.phase == .apart ? 0 : $1.bytes)
        }
        return healthy == 0 || healthy + least <= beyond ? least : nil
    }

    private func fits(_ bytes: Int, _ state: State) -> Bool {
        let divided = divided(state.columns)
        let taken = state.used + state.promised + bytes
        return taken <= divided / 2 && taken + state.working <= divided * 11 / 16
    }

    private func take(_ bytes: Int, for account: Account) -> Bool {
        state.withLock { state in
            // Those who wait come before those who have something.
            guard state.waiting.isEmpty, fits(bytes, state) else { return false }
            state.used += bytes
            state.entries[account.id]?.bytes += bytes
            state.entries[account.id]?.isEmptyHanded = false
            return true
        }
    }

    private func add(_ bytes: Int, to account: Account) {
        guard bytes != 0 else { return }
        let notices = state.withLock { state -> Notices in
            state.used += bytes
            state.entries[account.id]?.bytes += bytes
            guard bytes < 0 else {
                state.entries[account.id]?.isEmptyHanded = false
                return []
            }
            return next(&state)
        }
        Self.deliver(notices)
    }

    // MARK: Waiting

    private typealias Notices = [(account: Account, notice: Account.Notice)]

    private static func deliver(_ notices: Notices) {
        for (account, notice) in notices { account.tell(notice) }
    }

    /// Who is to be told something now that something changed: those who wait and find memory, or else whoever can give some back.
    ///
    /// What is promised stays theirs until they ask again or say that they need it no more, so no wake-up is lost and none is for nothing.
    private func next(_ state: inout State) -> Notices {
        var notices: Notices = []
        while let id = state.waiting.first {
            guard let entry = state.entries[id], let least = entry.least else {
                state.waiting.removeFirst()
                continue
            }
            guard grant(least, least, id, state) != nil else { break }
            state.waiting.removeFirst()
            state.entries[id]?.least = nil
            state.entries[id]?.promised = max(1, least)
            state.promised += max(1, least)
            notices.append((entry.account, .room))
        }
        guard !state.waiting.isEmpty else { return notices }
        // A commit under way, or one that was asked for, gives back what it writes.
        guard !state.entries.values.contains(where: { $0.phase == .committing || $0.isAsked }) else { return notices }
        let idle = state.entries.filter { $0.value.phase == .idle && $0.value.bytes > 0 && !$0.value.isEmptyHanded }
        guard let (id, entry) = idle.max(by: { $0.value.bytes < $1.value.bytes }) else { return notices }
        state.entries[id]?.isAsked = true
        notices.append((entry.account, .due))
        return notices
    }

    // MARK: Work

    /// Takes memory for work; blocks while there is none and work of the same kind is under way elsewhere.
    ///
    /// One piece of each kind always goes on, however much it needs. Call on a thread that may block, and not from within such work.
    package func begin(_ kind: Work, _ bytes: Int) {
        workers.lock()
        defer { workers.unlock() }
        while work.withLock({ $0[kind] ?? 0 }) > 0, !hasRoom(forWork: bytes) { workers.wait() }
        work.withLock { $0[kind, default: 0] += bytes }
        state.withLock { $0.working += bytes }
    }

    /// Gives back what ``begin(_:_:)`` took.
    package func end(_ kind: Work, _ bytes: Int) {
        let notices = state.withLock { state in
            state.working -= bytes
            return next(&state)
        }
        work.withLock { $0[kind, default: 0] -= bytes }
        workers.withLock { workers.broadcast() }
        Self.deliver(notices)
    }

    private func hasRoom(forWork bytes: Int) -> Bool {
        state.withLock { state in
            state.used + state.promised + state.working + bytes <= divided(state.columns) * 11 / 16
        }
    }

    /// Bytes that are taken now, for rows and for work.
    package var bytes: Int { state.withLock { $0.used + $0.working } }

    // MARK: Fetching

    /// Bytes one feed may fetch at once, one of `count` of its topic; twice as much may be on its way.
    func fetchMax(of count: Int32) -> Int {
        let (behind, divided) = state.withLock { ($0.feedsBehind, self.divided($0.columns)) }
        return max(64 << 10, min(divided / 32 / Int(max(1, count)), divided / 16 / max(1, behind)))
    }

    /// Counts the feeds whose topics have more for them than they fetch.
    func note(feedsBehind change: Int) { state.withLock { $0.feedsBehind += change } }
}
