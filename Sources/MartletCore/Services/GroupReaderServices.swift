// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Who wants to read a topic for a consumer group.
package struct GroupReaderRequest: Sendable, Equatable {
    /// The group's name.
    package var group: String
    /// Name, GUID or resource name of the topic.
    package var topic: String
    /// Where to begin in partitions the group has no offset in: earliest, latest or a time.
    package var start: RecordStart

    /// Describes a reader.
    package init(group: String, topic: String, start: RecordStart) {
        self.group = group
        self.topic = topic
        self.start = start
    }
}

/// What a reader of a group asks for next.
package struct GroupReadRequest: Sendable, Equatable {
    /// What it was given up to here is done with, 0 for nothing; the rest of it is given again.
    package var mark: UInt64
    /// Most records to give.
    package var limit: Int
    /// How long to wait for a first one.
    package var wait: Duration
    /// Whether to answer at once where the group has acknowledged all there is.
    package var stopsAtEnd: Bool

    /// Describes a request.
    package init(mark: UInt64, limit: Int, wait: Duration, stopsAtEnd: Bool) {
        self.mark = mark
        self.limit = limit
        self.wait = wait
        self.stopsAtEnd = stopsAtEnd
    }
}

/// Records given to one reader of a group.
package struct GroupRecords: Sendable, Equatable {
    /// The records; those of one partition in order, but for such as come again.
    package var records: [TopicRecord]
    /// Acknowledges these records and all that the reader was given before them.
    package var mark: UInt64
    /// Whether the group has acknowledged all there is.
    package var isAtEnd: Bool

    /// Describes records.
    package init(records: [TopicRecord], mark: UInt64, isAtEnd: Bool) {
        self.records = records
        self.mark = mark
        self.isAtEnd = isAtEnd
    }
}

/// Reading for a consumer group request by request: readers of a group share its records, also with subscribers over gRPC.
package protocol GroupReaderServices: Sendable {
    /// Becomes a reader and returns its id; it ends when it is not asked for anything for ``GroupReaderLimits/idleSeconds``.
    ///
    /// - Throws: `ServiceError` `.notFound`, `.inUse` where clients of Kafka read for the group, `.failedPrecondition` where its
    ///   readers read something else, `.forbidden` for the engine's own, `.invalid`, `.unavailable`.
    func begin(_ request: GroupReaderRequest) async throws -> String

    /// Acknowledges through `mark` and returns the next records, waiting for a first one, or for the end where it is to stop there.
    ///
    /// What was given before and is not acknowledged by then is given again: its answer may never have arrived. That the end is reached is
    /// said when what was acknowledged is on disk.
    /// - Throws: `ServiceError` `.notFound` for a reader that has ended, `.failedPrecondition` while another request of it is under way,
    ///   `.unavailable` where what was acknowledged cannot be stored, and why the group is no longer read for.
    func read(_ group: String, _ reader: String, _ next: GroupReadRequest) async throws -> GroupRecords

    /// Says that the reader is still at work.
    func touch(_ group: String, _ reader: String) async throws

    /// Acknowledges through `mark`, which is on disk on return, and ends the reader: what it did not acknowledge goes to others.
    ///
    /// - Throws: `ServiceError` `.notFound`; `.unavailable` where it cannot be stored: the reader has not ended then.
    func end(_ group: String, _ reader: String, through mark: UInt64) async throws
}

/// Limits of readers of groups.
package enum GroupReaderLimits {
    /// How long a reader stays that asks for nothing.
    package static let idleSeconds = 15
    /// Most readers at one time.
    package static let readersMax = 128
    /// Most records in one answer.
    package static let recordsMax = 5000
}
