// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Why the event log refused or failed.
package struct EventLogError: Error, Sendable, CustomStringConvertible {
    /// The kinds of failure.
    package enum Code: String, Sendable, CaseIterable {
        /// A topic with this name exists.
        case topicExists
        /// There is no topic with this name.
        case unknownTopic
        /// The topic has no partition with this number.
        case unknownPartition
        /// The name breaks the rule for topic names.
        case invalidTopicName
        /// A setting, a number of partitions, a group name or an offset is out of range.
        case invalidSettings
        /// The offset is below the log's start or beyond its end.
        case offsetOutOfRange
        /// The batch sent is malformed; nothing was written.
        case corruptBatch
        /// The batch or metadata sent is larger than allowed; nothing was written.
        case messageTooLarge
        /// The disk has no room; the log was cut back to its last whole batch and works again when there is room.
        case diskFull
        /// A write could not be made durable, so the partition takes no more appends until the engine is restarted.
        case partitionStopped
        /// The stored records at this offset are damaged; ``EventLogError/nextReadableOffset`` is behind them.
        case damaged
        /// Too much is waiting to be written; nothing was written, try again.
        case overloaded
        /// The batch breaks a rule for what producers may send; nothing was written.
        case invalidRecord
        /// A record's timestamp is further from now than the topic takes; nothing was written.
        case invalidTimestamp
        /// A batch of an idempotent producer is missing in front of this one; nothing was written.
        case outOfOrderSequence
        /// The partition does not know the producer, so a batch cannot follow an earlier one; nothing was written.
        case unknownProducer
        /// A newer epoch of the producer has taken this one's place; nothing was written.
        case invalidProducerEpoch
        /// The producer has no transaction, or another one, under way; nothing was written.
        case invalidTransactionState
        /// A newer transaction coordinator has taken this one's place; nothing was written.
        case coordinatorFenced
        /// The log is closed.
        case closed
        /// Another process owns the data directory.
        case dataDirectoryInUse
        /// The data directory or a file in it cannot be created, read or written.
        case inputOutput
        /// A file was written by a newer version.
        case unsupportedFormat
    }

    /// The kind of failure.
    package let code: Code
    /// What happened, with the offending value, and what to do.
    package let message: String
    /// The topic concerned.
    package var topic: String?
    /// The partition concerned.
    package var partition: Int32?
    /// The offset concerned.
    package var offset: Int64?
    /// Where reading can go on, for `.damaged`.
    package var nextReadableOffset: Int64?
    /// The file or directory concerned.
    package var path: String?
    /// The system's error number, where there was one.
    package var systemError: Int32?
    /// The records for which a batch was refused, the first hundred of them; empty where it was not for single ones.
    package var records: [RecordRefusal]

    /// Creates an error.
    package init(
        _ code: Code,
        _ message: String,
        topic: String? = nil,
        partition: Int32? = nil,
        offset: Int64? = nil,
        nextReadableOffset: Int64? = nil,
        path: String? = nil,
        systemError: Int32? = nil,
        records: [RecordRefusal] = []
    ) {
        self.code = code
        self.message = message
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.nextReadableOffset = nextReadableOffset
        self.path = path
        self.systemError = systemError
        self.records = records
    }

    package var description: String {
        var text = "\(code.rawValue): \(message)"
        if let topic { text += partition.map { " (topic \(topic), partition \($0))" } ?? " (topic \(topic))" }
        return text
    }

    /// Whether there may be no more open files.
    var isOutOfFiles: Bool { systemError == EMFILE || systemError == ENFILE }

    func at(_ id: TopicPartition) -> EventLogError {
        var error = self
        error.topic = id.topic
        error.partition = id.partition
        return error
    }
}
