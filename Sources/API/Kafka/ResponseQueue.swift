// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DequeModule

/// Answers of one connection, given out in the order of the requests whatever the order they are ready in.
///
/// Belongs to the connection's event loop.
struct ResponseQueue {
    enum Answer {
        /// Parts to be written one after the other, and the memory they are in where that has been taken.
        case parts([ResponsePart], AnswerLoan? = nil)
        /// The request has no answer, as a produce request that wants no acknowledgement.
        case none
        /// The connection ends once what is in front has been written.
        case close([ResponsePart])
    }

    private var slots: Deque<Answer?> = []
    /// Number of the first slot.
    private var first: UInt64 = 0

    /// How many requests are at work or wait behind one that is.
    var count: Int { slots.count }
    var isEmpty: Bool { slots.isEmpty }

    /// Makes room for the answer of the next request; returns its number.
    mutating func open() -> UInt64 {
        slots.append(nil)
        return first + UInt64(slots.count) - 1
    }

    /// Puts an answer into its place.
    mutating func set(_ answer: Answer, at number: UInt64) {
        slots[Int(number - first)] = answer
    }

    /// Takes the next answer that may be written now.
    mutating func next() -> Answer? {
        guard let answer = slots.first ?? nil else { return nil }
        slots.removeFirst()
        first += 1
        return answer
    }
}
