// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DequeModule

/// Which partitions are read: a few at a time and in turns, where their subscribers have room.
///
/// Otherwise each acknowledgement would have every partition read that has records, for the room of one.
extension SubscriptionState {
    /// Most partitions that are read at one time.
    private static let turnsMax = 8

    /// Whether a partition may be read now, which is its turn until ``endTurn(_:)`` or until a record of it has to wait; where not, it is
    /// woken when its turn comes, to ask again.
    package mutating func ask(_ partition: Int) -> Bool {
        if turns.contains(partition) {
            if hasTaker(partition) { return true }
            turns.remove(partition)
        }
        if isInLine.insert(partition).inserted { line.append(partition) }
        admit()
        guard turns.contains(partition) else { return false }
        effects.woken.remove(partition)
        return true
    }

    /// Notes that a partition is not read any more.
    package mutating func endTurn(_ partition: Int) {
        guard turns.remove(partition) != nil else { return }
        admit()
    }

    /// Gives turns to partitions, to no more of a subscriber's than it has room for records.
    mutating func admit() {
        guard !line.isEmpty, turns.count < Self.turnsMax else { return }
        var room: [Int: Int] = [:]
        for number in subscribers.keys where slots(of: number) > 0 { room[number] = slots(of: number) }
        func take(for place: Int) -> Bool {
            guard let subscriber = partitions[place].assigned.first(where: { room[$0] != nil }) else { return false }
            room[subscriber] = room[subscriber, default: 1] > 1 ? room[subscriber, default: 1] - 1 : nil
            return true
        }
        for place in turns { _ = take(for: place) }
        var index = line.startIndex
        while !room.isEmpty, turns.count < Self.turnsMax, index < line.endIndex {
            let place = line[index]
            guard isInWindow(place), take(for: place) else {
                index += 1
                continue
            }
            line.remove(at: index)
            isInLine.remove(place)
            turns.insert(place)
            effects.woken.insert(place)
        }
    }

    private func hasTaker(_ place: Int) -> Bool {
        isInWindow(place) && partitions[place].assigned.contains { slots(of: $0) > 0 }
    }

    /// For about how many new records a subscriber has room.
    private func slots(of subscriber: Int) -> Int {
        owed.contains(subscriber) ? 0 : subscribers[subscriber]?.slots ?? 0
    }

    private func isInWindow(_ place: Int) -> Bool {
        partitions[place].order.isEmpty || partitions[place].position - partitions[place].lowest < windowMax
    }
}
