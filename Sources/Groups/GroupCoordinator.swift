// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import FoundationEssentials
import HeapModule
package import Logging
import Synchronization

/// Consumer groups for every door: one lock for each group, one timer for all, states and offsets in a ``GroupStore``.
///
/// Calls may come before ``run()``, which keeps deadlines and stores states; until it runs, joins wait. Cancelling the
/// task of a waiting call tells the group that its client is gone. Groups whose name begins with two underscores are the
/// engine's own: they are shown and their offsets may be read, and everything else is refused.
package final class GroupCoordinator: Sendable {
    private struct Deadline: Comparable {
        let instant: ContinuousClock.Instant
        let cell: GroupCell

        static func < (left: Deadline, right: Deadline) -> Bool { left.instant < right.instant }
        static func == (left: Deadline, right: Deadline) -> Bool { left.instant == right.instant }
    }

    private struct Directory {
        var cells: [String: GroupCell] = [:]
        var isClosed = false
    }

    let store: any GroupStore
    let settings: GroupSettings
    let clock: GroupClock
    let logger: Logger
    // Lock order: the directory, then a cell, then the deadlines.
    private let directory = Mutex(Directory())
    private let deadlines = Mutex(Heap<Deadline>())
    private let bell = Bell()
    /// What the members of all groups take in memory.
    private let memberBytes = Atomic<Int>(0)
    /// Each group is in it at most once, as `isWriting` says.
    private let writes = AsyncStream.makeStream(of: GroupCell.self)

    /// Brings back what `store` holds; states that cannot be read are logged, and their members have to join again.
    package init(
        store: any GroupStore,
        settings: GroupSettings = GroupSettings(),
        clock: GroupClock = .system,
        logger: Logger
    ) {
        self.store = store
        self.settings = settings
        self.clock = clock
        self.logger = logger
        for (name, bytes) in store.states() where !Self.isInternal(name) { restore(name, bytes) }
    }

    /// Whether a group is the engine's own.
    package static func isInternal(_ group: String) -> Bool { group.hasPrefix("__") }

    private func restore(_ name: String, _ bytes: [UInt8]) {
        let now = clock.now()
        var machine = ConsumerGroup(name: name, settings: settings)
        do {
            machine = ConsumerGroup(
                name: name,
                settings: settings,
                restoring: try StoredGroup(decoding: bytes),
                now: now
            )
        } catch {
            logger.error(
                "the stored state of a consumer group cannot be read; its members have to join again",
                metadata: ["group": "\(name)", "error": "\(error)"]
            )
        }
        let cell = GroupCell(machine)
        directory.withLock { $0.cells[name] = cell }
        update(cell) { _, _ in }
    }

    // MARK: Running

    /// Keeps deadlines, stores states and deletes expired groups until cancelled; then answers everybody who waits.
    package func run() async {
        await withDiscardingTaskGroup { group in
            group.addTask { await self.keepDeadlines() }
            group.addTask { await self.expireRegularly() }
            await storeStates()
            group.cancelAll()
        }
        close()
    }

    /// Stores and deletes groups as they ask for it, until cancelled; part of ``run()``.
    package func storeStates() async {
        await withDiscardingTaskGroup { group in
            for await cell in writes.stream { group.addTask { await self.write(cell) } }
        }
    }

    /// Refuses further joins and syncs and answers those that wait with ``GroupError/coordinatorNotAvailable``.
    package func close() {
        let cells = directory.withLock { directory in
            directory.isClosed = true
            return Array(directory.cells.values)
        }
        for cell in cells { interrupt(cell) }
    }

    private func interrupt(_ cell: GroupCell) {
        let removal = update(cell) { contents, now in
            contents.machine.interrupt(now: now)
            defer { contents.removal = nil }
            return contents.removal
        }
        removal?.fulfil(false)
    }

    /// Answers who came while the coordinator was closed.
    func interruptIfClosed(_ cell: GroupCell) {
        if isClosed { interrupt(cell) }
    }

    private func keepDeadlines() async {
        while !Task.isCancelled {
            fireDeadlines()
            await bell.sleep(until: deadlines.withLock { $0.min?.instant })
        }
    }

    /// Does what is due by the clock.
    package func fireDeadlines() {
        while true {
            let now = clock.now()
            let due = deadlines.withLock { heap -> Deadline? in
                guard let first = heap.min, first.instant <= now.instant else { return nil }
                return heap.removeMin()
            }
            guard let due else { return }
            update(due.cell) { contents, now in
                // Overtaken by an earlier one, which has put the next one in the heap itself.
                guard contents.scheduled == due.instant else { return }
                contents.scheduled = nil
                contents.machine.tick(now: now)
            }
            forgetIfPristine(due.cell)
        }
    }

    private func expireRegularly() async {
        while !Task.isCancelled {
            do { try await Task.sleep(for: settings.expiryInterval) } catch { return }
            await expireOffsets()
        }
    }

    private func write(_ cell: GroupCell) async {
        while true {
            let (state, removal) = cell.contents.withLock { contents in
                let work = (contents.unwritten, contents.removal)
                contents.unwritten = nil
                if work.0 == nil { contents.removal = nil }
                if work.0 == nil, work.1 == nil { contents.isWriting = false }
                return work
            }
            if let state {
                let isStored = await save(state.group, of: cell.name)
                update(cell) { contents, now in
                    contents.machine.stored(through: state.sequence, succeeded: isStored, now: now)
                }
            } else if let removal {
                await remove(cell, removal)
            } else {
                return
            }
        }
    }

    private func save(_ group: StoredGroup, of name: String) async -> Bool {
        do {
            try await store.storeState(name, group.encode())
            return true
        } catch {
            logger.error(
                "the state of a consumer group cannot be stored",
                metadata: ["group": "\(name)", "error": "\(error)"]
            )
            return false
        }
    }

    private func remove(_ cell: GroupCell, _ removal: Promise<Bool>) async {
        do {
            try await store.deleteGroup(cell.name)
        } catch {
            logger.error(
                "a consumer group cannot be deleted",
                metadata: ["group": "\(cell.name)", "error": "\(error)"]
            )
            cell.contents.withLock { $0.machine.reopen() }
            removal.fulfil(false)
            return
        }
        directory.withLock { directory in
            cell.contents.withLock { $0.isRemoved = true }
            directory.cells[cell.name] = nil
        }
        removal.fulfil(true)
    }

    // MARK: Groups

    /// Changes a group under its lock, then does what comes of it.
    @discardableResult
    func update<Result>(_ cell: GroupCell, _ body: (inout GroupCell.Contents, GroupTime) -> Result) -> Result {
        let now = clock.now()
        let (result, aftermath) = cell.contents.withLock { contents in
            let result = body(&contents, now)
            return (result, contents.settle())
        }
        if aftermath.memberBytesChange != 0 { memberBytes.add(aftermath.memberBytesChange, ordering: .relaxed) }
        for (promise, answer) in aftermath.joins { promise.fulfil(answer) }
        for (promise, answer) in aftermath.syncs { promise.fulfil(answer) }
        if aftermath.startsWriting { writes.continuation.yield(cell) }
        if let instant = aftermath.schedule {
            let isEarliest = deadlines.withLock { heap in
                let isEarliest = heap.min.map { instant < $0.instant } ?? true
                heap.insert(Deadline(instant: instant, cell: cell))
                return isEarliest
            }
            if isEarliest { bell.ring() }
        }
        return result
    }

    /// As ``update(_:_:)``, for what touches a heartbeat at most: deadlines only move away, and nothing else changes.
    func touch<Result>(_ cell: GroupCell, _ body: (inout GroupCell.Contents, GroupTime) -> Result) -> Result {
        let now = clock.now()
        return cell.contents.withLock { contents in body(&contents, now) }
    }

    /// Returns a group, made where wanted; nil when there is none.
    ///
    /// - Throws: `.groupMaxSizeReached` when there are too many groups, `.coordinatorNotAvailable` when closed.
    func cell(_ name: String, creating: Bool) throws(GroupError) -> GroupCell? {
        let known = directory.withLock { directory -> Result<GroupCell?, GroupError>? in
            if let cell = directory.cells[name] { return .success(cell) }
            if directory.isClosed { return .failure(.coordinatorNotAvailable) }
            return creating ? nil : .success(nil)
        }
        if let known { return try known.get() }
        guard hasRoom(for: name) else { throw .groupMaxSizeReached }
        let found = directory.withLock { directory -> Result<GroupCell?, GroupError> in
            if let cell = directory.cells[name] { return .success(cell) }
            if directory.isClosed { return .failure(.coordinatorNotAvailable) }
            let cell = GroupCell(ConsumerGroup(name: name, settings: settings))
            directory.cells[name] = cell
            return .success(cell)
        }
        return try found.get()
    }

    /// Whether a group of this name may be: one that is there, in whatever form, or one more.
    ///
    /// Those that begin at the same moment may become a few too many.
    func hasRoom(for name: String) -> Bool {
        let cells = directory.withLock { $0.cells.count }
        let unfinished = store.unfinishedGroups()
        guard cells + store.offsetUsage.groups + unfinished.count >= settings.groupsMax else { return true }
        var names = unfinished.union(store.groups()).union(directory.withLock { Set($0.cells.keys) })
        if names.contains(name) { return true }
        names = names.filter { !Self.isInternal($0) }
        return names.count < settings.groupsMax
    }

    /// By how much the members of all groups may grow.
    var memberBytesLeft: Int { settings.membersBytesMax - memberBytes.load(ordering: .relaxed) }

    /// Calls `body` with a group that is in the directory; nil when there is none.
    func withGroup<Result>(
        _ name: String,
        creating: Bool,
        isTouch: Bool = false,
        _ body: (inout GroupCell.Contents, GroupTime) -> Result
    ) throws(GroupError) -> (GroupCell, Result)? {
        while let cell = try cell(name, creating: creating) {
            let attempt = { (contents: inout GroupCell.Contents, now: GroupTime) -> Result? in
                contents.isRemoved ? nil : body(&contents, now)
            }
            // The group may have been removed between the two locks: then it is looked for again.
            if let result = isTouch ? touch(cell, attempt) : update(cell, attempt) { return (cell, result) }
        }
        return nil
    }

    /// The groups that have a state machine, unordered.
    func cells() -> [GroupCell] { directory.withLock { Array($0.cells.values) } }

    var isClosed: Bool { directory.withLock { $0.isClosed } }

    func forgetIfPristine(_ cell: GroupCell) {
        directory.withLock { directory in
            cell.contents.withLock { contents in
                guard contents.machine.isPristine, contents.waiting.isEmpty, contents.commits.isEmpty,
                    !contents.isWriting, !contents.isRemoved
                else { return }
                contents.isRemoved = true
                directory.cells[cell.name] = nil
            }
        }
    }

    /// Refuses names that are none, and the engine's own groups; nil for other names.
    package func refusal(of group: String, allowsInternal: Bool = false) -> GroupError? {
        guard settings.allows(groupName: group) else { return .invalidGroupID }
        return Self.isInternal(group) && !allowsInternal ? .groupAuthorizationFailed : nil
    }

    /// An id for a new member: what Kafka's tools expect to see, and nobody has had before.
    static func memberID(for request: GroupJoin.Request) -> String {
        let stem = request.instanceID ?? request.clientID
        return "\(stem.prefix(255))-\(UUID().uuidString.lowercased())"
    }
}
