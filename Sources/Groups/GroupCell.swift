// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// A group's state machine behind a lock, with those who wait for its answers.
final class GroupCell: Sendable {
    enum Waiter {
        case join(Promise<GroupJoin.Answer>)
        case sync(Promise<GroupSync.Answer>)
    }

    struct Contents {
        var machine: ConsumerGroup
        var waiting: [GroupCaller: Waiter] = [:]
        var lastCaller: UInt64 = 0
        var commits = CommitOrder()
        /// What the members counted for among those of all groups when that was last looked at.
        var memberBytes = 0
        /// The earliest moment at which the timer looks at the group.
        var scheduled: ContinuousClock.Instant?
        /// The newest state that waits to be stored.
        var unwritten: (sequence: UInt64, group: StoredGroup)?
        /// Who waits for the group to be deleted.
        var removal: Promise<Bool>?
        /// Whether a task stores what is to be stored.
        var isWriting = false
        /// Whether the group has left the directory, so that callers look again.
        var isRemoved = false

        mutating func register(_ waiter: Waiter) -> GroupCaller {
            lastCaller += 1
            let caller = GroupCaller(lastCaller)
            waiting[caller] = waiter
            return caller
        }
    }

    /// What is to be done once the lock is free.
    struct Aftermath {
        var joins: [(Promise<GroupJoin.Answer>, GroupJoin.Answer)] = []
        var syncs: [(Promise<GroupSync.Answer>, GroupSync.Answer)] = []
        var schedule: ContinuousClock.Instant?
        var startsWriting = false
        /// How much more or less memory the members take.
        var memberBytesChange = 0
    }

    let name: String
    let contents: Mutex<Contents>

    init(_ machine: ConsumerGroup) {
        name = machine.name
        contents = Mutex(Contents(machine: machine))
    }
}

extension GroupCell.Contents {
    /// Turns the machine's effects into what is left to do outside of the lock.
    mutating func settle() -> GroupCell.Aftermath {
        var aftermath = GroupCell.Aftermath()
        for effect in machine.takeEffects() {
            switch effect {
            case .join(let caller, let answer):
                if case .join(let promise) = waiting.removeValue(forKey: caller) {
                    aftermath.joins.append((promise, answer))
                }
            case .sync(let caller, let answer):
                if case .sync(let promise) = waiting.removeValue(forKey: caller) {
                    aftermath.syncs.append((promise, answer))
                }
            case .store(let sequence, let group): unwritten = (sequence, group)
            }
        }
        if unwritten != nil || removal != nil, !isWriting {
            isWriting = true
            aftermath.startsWriting = true
        }
        if let next = machine.nextDeadline, scheduled.map({ next < $0 }) ?? true {
            scheduled = next
            aftermath.schedule = next
        }
        let bytes = machine.memberByteCount
        aftermath.memberBytesChange = bytes - memberBytes
        memberBytes = bytes
        return aftermath
    }
}
