// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import EventLog
import MartletCore
import Synchronization
import Views

extension ViewRunner {
    /// Takes a new set of triggers; a new one has its checkpoint on disk before it writes its first event.
    func install(_ triggers: [ActiveTrigger]) async throws {
        let (old, isKnown) = state.withLock { ($0.triggers, Set($0.checkpoints.keys)) }
        for trigger in triggers {
            let before = old.first { $0.guid == trigger.guid }
            if before?.topic == trigger.topic, isKnown.contains(trigger.guid) { continue }
            let ends = try await context.tail.ends(trigger.topic)
            try await apply([:], Self.checkpoints(trigger, ends))
            state.withLock { state in
                state.checkpoints[trigger.guid] = ends
                state.reflected[trigger.guid] = ends
            }
        }
        state.withLock { state in
            state.triggers = triggers
            let guids = Set(triggers.map(\.guid))
            state.checkpoints = state.checkpoints.filter { guids.contains($0.key) }
            state.reflected = state.reflected.filter { guids.contains($0.key) }
        }
        for gone in old where !triggers.contains(where: { $0.guid == gone.guid }) {
            context.board.set(trigger: gone.guid, reason: nil)
            try await context.inventory.removeCheckpoints(view: view.guid, triggerGuid: gone.guid)
        }
    }

    private static func checkpoints(_ trigger: ActiveTrigger, _ ends: [Int32: Int64]) -> [InventoryCheckpoint] {
        ends.map { InventoryCheckpoint(triggerGuid: trigger.guid, topic: trigger.topic, partition: $0, offset: $1) }
    }

    /// What one trigger is known to have told of the elements it wrote about since its checkpoint.
    private struct Told {
        var trigger: ActiveTrigger
        var states: [String: ElementState?] = [:]
        /// When it last wrote about a key, and how often.
        var lastMicros: [String: Int64] = [:]
        var counts: [String: Int] = [:]
    }

    /// Brings inventory and topics to one state after the engine ended at any moment, and returns what is known of the view.
    ///
    /// What the triggers wrote after the last inventory write is read back from their topics and taken into the inventory; a trigger
    /// that had fallen behind another gets what it misses. The first scan then finds only what nobody was told of.
    func recover() async throws -> [(key: String, state: ElementState)] {
        let box = Mutex<[(key: String, state: ElementState)]>([])
        try await context.inventory.forEach(view: view.guid) { element in
            box.withLock { $0.append((element.key, element.state)) }
        }
        let known = box.withLock { $0 }
        state.withLock { $0.isBaseline = known.isEmpty }
        let stored = try await context.inventory.checkpoints(view: view.guid)
        var changes: [(trigger: ActiveTrigger, changes: [ElementChange])] = []
        for trigger in state.withLock({ $0.triggers }) {
            let own = stored.filter { $0.triggerGuid == trigger.guid && $0.topic == trigger.topic }
            guard !own.isEmpty else {
                let ends = try await context.tail.ends(trigger.topic)
                state.withLock { $0.checkpoints[trigger.guid] = ends }
                try await apply([:], Self.checkpoints(trigger, ends))
                continue
            }
            let from = Dictionary(own.map { ($0.partition, $0.offset) }) { $1 }
            var written: [ElementChange] = []
            let ends = try await context.tail.forEach(trigger.topic, trigger: trigger.guid, from: from) { event in
                if let change = ElementEvent.change(event) { written.append(change) }
            }
            state.withLock { $0.checkpoints[trigger.guid] = ends }
            changes.append((trigger, written))
        }
        let keys = Set(changes.flatMap { $0.changes.map(\.key) })
        guard !keys.isEmpty else { return known }
        var before: [String: ElementState] = [:]
        for element in known where keys.contains(element.key) { before[element.key] = element.state }
        let told = changes.map { Self.told($0.trigger, $0.changes, before) }
        let newest = Self.newest(told, keys)
        for trigger in told { try await catchUp(trigger, newest, before) }
        let checkpoints = state.withLock { state in
            told.flatMap { Self.checkpoints($0.trigger, state.checkpoints[$0.trigger.guid] ?? [:]) }
        }
        try await apply(newest, checkpoints)
        return known.filter { !keys.contains($0.key) }
            + newest.compactMap { key, state in state.map { (key: key, state: $0) } }
    }

    private static func told(
        _ trigger: ActiveTrigger,
        _ changes: [ElementChange],
        _ before: [String: ElementState]
    ) -> Told {
        var told = Told(trigger: trigger)
        for change in changes {
            let old = told.states[change.key] ?? before[change.key]
            told.states[change.key] = .some(rollForward(old, change))
            told.lastMicros[change.key] = max(told.lastMicros[change.key] ?? 0, change.seenMicros)
            told.counts[change.key, default: 0] += 1
        }
        return told
    }

    /// The state after a change.
    ///
    /// An event carries all tags the element had, but tells only of its own.
    private static func rollForward(_ old: ElementState?, _ change: ElementChange) -> ElementState? {
        var state = change.state
        state.tags = old?.tags ?? [:]
        switch change.kind {
        case .removed: return nil
        case .created: break
        case .tagPut: if let tag = change.tag { state.tags[tag.name] = tag.value }
        case .tagRemoved: if let tag = change.tag { state.tags.removeValue(forKey: tag.name) }
        }
        return state
    }

    private static func newest(_ told: [Told], _ keys: Set<String>) -> [String: ElementState?] {
        var newest: [String: ElementState?] = [:]
        for key in keys {
            let best = told.filter { $0.states[key] != nil }.max { left, right in
                (left.lastMicros[key] ?? 0, left.counts[key] ?? 0) < (
                    right.lastMicros[key] ?? 0, right.counts[key] ?? 0
                )
            }
            if let state = best?.states[key] { newest[key] = .some(state) }
        }
        return newest
    }

    private func catchUp(
        _ told: Told,
        _ newest: [String: ElementState?],
        _ before: [String: ElementState]
    ) async throws {
        var missing: [ElementChange] = []
        for (key, state) in newest.sorted(by: { $0.key < $1.key }) {
            let own = told.states[key] ?? before[key]
            missing += ElementChange.between(
                own,
                state,
                key: key,
                isFromScan: true,
                seenMicros: Timestamp.nowMicroseconds()
            ).filter { told.trigger.filter.matches($0) }
        }
        guard await send(missing, for: told.trigger) else { throw CancellationError() }
    }
}
