// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import EventLog
import Logging
import MartletCore
import Synchronization
import Views

/// Watches one view and writes the events of its triggers: log first, then inventory.
///
/// One task takes batches of changes from the watcher, appends their events for all triggers, and only then takes the next. The
/// inventory follows behind; with every write go the checkpoints up to which the triggers' topics are reflected in it.
final class ViewRunner: Sendable {
    struct State {
        var triggers: [ActiveTrigger] = []
        /// By trigger, the offsets in its topic behind everything it has written.
        var checkpoints: [String: [Int32: Int64]] = [:]
        /// The same, as far as ``states`` and the inventory reflect it.
        var reflected: [String: [Int32: Int64]] = [:]
        /// What the inventory has yet to learn.
        var states: [String: ElementState?] = [:]
        var changedCheckpoints: Set<String> = []
        /// Set until the first scan of a view nothing was known of is through.
        var isBaseline = false
        var isSending = false
        var isDeleted = false
        var recentIDs = RecentIDs()
    }

    let view: Resource<ViewSpec>
    let context: TriggerContext
    let events: ElementEvent
    let state: Mutex<State>
    let stopSignal = StopSignal()
    private let inventoryIsBehind: AsyncStream<Void>
    private let noteInventoryBehind: AsyncStream<Void>.Continuation

    init(_ view: Resource<ViewSpec>, triggers: [ActiveTrigger], context: TriggerContext) {
        self.view = view
        self.context = context
        events = ElementEvent(settings: context.settings, view: view.name, root: view.spec.path)
        state = Mutex(State(triggers: triggers))
        (inventoryIsBehind, noteInventoryBehind) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    // MARK: Running

    func run() async {
        await stopSignal.whileNotStopped { [self] in await watch() }
        context.board.set(view: view.guid, nil)
    }

    private func watch() async {
        context.board.set(view: view.guid, ViewStatus(.scanning))
        guard let known = await retrying("read what is known of it", { try await self.recover() }) else { return }
        let channel = BatchChannel(changesMax: context.settings.watch.pendingChangesMax)
        let watcher = ViewWatcher(root: view.spec.path, settings: context.settings.watch, channel: channel) {
            [self] status in
            context.board.set(view: view.guid, status)
            if status.state == .failed {
                context.logger.warning(
                    "view failed",
                    metadata: ["view": "\(view.name)", "reason": "\(status.reason ?? "")"]
                )
            }
        }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await watcher.run(known: known) }
            group.addTask { await self.writeInventory() }
            group.addTask { await self.moveQuietCheckpoints() }
            await pump(channel)
            group.cancelAll()
        }
    }

    private func pump(_ channel: BatchChannel) async {
        while let batch = await channel.next() {
            state.withLock { $0.isSending = true }
            var rest = batch.changes[...]
            while !rest.isEmpty {
                let chunk = rest.prefix(context.settings.changesPerAppendMax)
                rest = rest.dropFirst(chunk.count)
                guard await deliver(Array(chunk)) else { return }
            }
            state.withLock { state in
                state.states.merge(batch.states) { $1 }
                if batch.endsScan { state.isBaseline = false }
                for guid in state.changedCheckpoints { state.reflected[guid] = state.checkpoints[guid] }
                state.isSending = false
            }
            noteInventoryBehind.yield()
        }
    }

    /// Appends the events of changes for all triggers; false when the task was cancelled before that was done.
    private func deliver(_ changes: [ElementChange]) async -> Bool {
        context.metrics.counter(EngineMetrics.elementsSeen, ["view": events.view]).add(Int64(changes.count))
        let triggers = state.withLock { $0.triggers }
        if triggers.count <= 1 {
            for trigger in triggers { guard await send(wanted(changes, trigger), for: trigger) else { return false } }
            return true
        }
        return await withTaskGroup(of: Bool.self) { group in
            for trigger in triggers {
                group.addTask { await self.send(self.wanted(changes, trigger), for: trigger) }
            }
            return await group.allSatisfy { $0 }
        }
    }

    private func wanted(_ changes: [ElementChange], _ trigger: ActiveTrigger) -> [ElementChange] {
        let isBaseline = state.withLock { $0.isBaseline }
        return changes.filter { change in
            guard trigger.filter.matches(change) else { return false }
            // What was in a new view before the trigger was made is no news. Change times are up to a tick behind.
            guard isBaseline, change.isFromScan else { return true }
            return change.state.changedNanos + 20_000_000 >= trigger.createdNanos
        }
    }

    // MARK: Inventory

    private func writeInventory() async {
        for await _ in inventoryIsBehind {
            _ = await retrying("write the inventory", { try await self.writePending() })
            // What follows soon is written together.
            // Only cancellation ends it.
            guard (try? await Task.sleep(for: .milliseconds(100))) != nil else { return }
        }
    }

    private func writePending() async throws {
        let (states, checkpoints) = state.withLock { state -> ([String: ElementState?], [InventoryCheckpoint]) in
            guard !state.isBaseline else { return ([:], []) }
            let taken = (state.states, pendingCheckpoints(state))
            state.states = [:]
            if !state.isSending { state.changedCheckpoints = [] }
            return taken
        }
        guard !states.isEmpty || !checkpoints.isEmpty else { return }
        do {
            try await apply(states, checkpoints)
        } catch {
            state.withLock { state in
                state.states.merge(states) { newer, _ in newer }
                state.changedCheckpoints.formUnion(checkpoints.map(\.triggerGuid))
            }
            throw error
        }
    }

    private func pendingCheckpoints(_ state: borrowing State) -> [InventoryCheckpoint] {
        var checkpoints: [InventoryCheckpoint] = []
        for trigger in state.triggers where state.changedCheckpoints.contains(trigger.guid) {
            for (partition, offset) in state.reflected[trigger.guid] ?? [:] {
                checkpoints.append(
                    InventoryCheckpoint(
                        triggerGuid: trigger.guid,
                        topic: trigger.topic,
                        partition: partition,
                        offset: offset
                    )
                )
            }
        }
        return checkpoints
    }

    func apply(_ states: [String: ElementState?], _ checkpoints: [InventoryCheckpoint]) async throws {
        try await context.inventory.apply(
            view: view.guid,
            upserts: states.compactMap { key, state in state.map { InventoryElement(key: key, state: $0) } },
            removals: states.compactMap { key, state in state == nil ? key : nil },
            checkpoints: checkpoints
        )
    }

    /// Keeps the part of a shared topic small that has to be read after a crash.
    private func moveQuietCheckpoints() async {
        // Only cancellation ends it.
        while (try? await Task.sleep(for: context.settings.checkpointInterval)) != nil {
            for trigger in state.withLock({ $0.triggers }) {
                // The ends are read first: whatever the trigger appends afterwards lies behind them.
                // Tried again next time.
                guard let ends = try? await context.tail.ends(trigger.topic) else { continue }
                state.withLock { state in
                    let isQuiet = !state.isSending && state.states.isEmpty && !state.isBaseline
                    guard isQuiet, state.triggers.contains(where: { $0.isSame(as: trigger) }),
                        state.checkpoints[trigger.guid]?.contains(where: { $1 < ends[$0] ?? 0 }) == true
                    else { return }
                    state.checkpoints[trigger.guid]?.merge(ends) { max($0, $1) }
                    state.reflected[trigger.guid] = state.checkpoints[trigger.guid]
                    state.changedCheckpoints.insert(trigger.guid)
                }
            }
            noteInventoryBehind.yield()
        }
    }

    /// Repeats something until it succeeds; nil when the task was cancelled.
    func retrying<T: Sendable>(_ what: String, _ body: @Sendable () async throws -> T) async -> T? {
        var delay = context.settings.retryDelay
        while !Task.isCancelled {
            do {
                return try await body()
            } catch {
                if Task.isCancelled { return nil }
                context.logger.error(
                    "a view's work failed and is tried again",
                    metadata: ["view": "\(view.name)", "what": "\(what)", "error": "\(error)"]
                )
                // Only cancellation ends it.
                guard (try? await Task.sleep(for: delay)) != nil else { return nil }
                delay = min(delay * 2, context.settings.retryDelayMax)
            }
        }
        return nil
    }
}

/// The last ids given out, to tell apart changes that metadata cannot.
struct RecentIDs: Sendable {
    private static let countMax = 8192
    private var ring: [UInt64] = []
    private var next = 0
    private var members: Set<UInt64> = []

    /// A new id for a change of a trigger.
    mutating func id(_ change: ElementChange, trigger: String) -> UInt64 {
        var salt: UInt64 = 0
        var id = ElementEvent.id(change, trigger: trigger)
        while !members.insert(id).inserted {
            salt += 1
            id = ElementEvent.id(change, trigger: trigger, salt: salt)
        }
        if ring.count < Self.countMax {
            ring.append(id)
        } else {
            members.remove(ring[next])
            ring[next] = id
            next = (next + 1) % Self.countMax
        }
        return id
    }
}

extension InventoryElement {
    init(key: String, state: ElementState) {
        self.init(
            key: key,
            inode: state.inode,
            sizeBytes: state.sizeBytes,
            modifiedNanos: state.modifiedNanos,
            changedNanos: state.changedNanos,
            tags: state.tags,
            version: 1
        )
    }

    var state: ElementState {
        ElementState(
            inode: inode,
            sizeBytes: sizeBytes,
            modifiedNanos: modifiedNanos,
            changedNanos: changedNanos,
            tags: tags
        )
    }
}
