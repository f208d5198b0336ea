// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Names a caller that waits for the answer to a join or a sync.
package struct GroupCaller: Hashable, Sendable {
    /// Unique in a group.
    package let number: UInt64

    /// Names a caller.
    package init(_ number: UInt64) {
        self.number = number
    }
}

/// What the state machine wants done, in order.
package enum GroupEffect: Sendable, Equatable {
    /// Answer a waiting join.
    case join(GroupCaller, GroupJoin.Answer)
    /// Answer a waiting sync.
    case sync(GroupCaller, GroupSync.Answer)
    /// Store the state, then call ``ConsumerGroup/stored(through:succeeded:now:)``.
    ///
    /// Of several that wait, only the last one need be written.
    case store(sequence: UInt64, StoredGroup)
}
