// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Topics of records, and how far consumer groups have come in them.
///
/// Bytes are Kafka record batches, version 2, exactly as sent except for base offset and leader epoch, which the log
/// assigns.
package protocol EventLog: Sendable {
    /// Creates a topic; it is on disk on return.
    ///
    /// - Throws: `.topicExists`, `.invalidTopicName`, `.invalidSettings`, `.diskFull`.
    func createTopic(_ name: String, partitions: Int32, settings: TopicSettings) async throws

    /// Changes a topic's settings and, where `partitions` is given, raises the number of partitions.
    ///
    /// - Throws: `.unknownTopic`, `.invalidSettings` (also for fewer partitions than there are).
    func updateTopic(_ name: String, settings: TopicSettings, partitions: Int32?) async throws

    /// Deletes a topic, its records and the offsets committed for it.
    ///
    /// - Throws: `.unknownTopic`.
    func deleteTopic(_ name: String) async throws

    /// Returns a topic's description, or `nil` when there is none.
    func topic(_ name: String) async throws -> TopicDescription?

    /// Returns every topic, ordered by name.
    func topics() async throws -> [TopicDescription]

    /// Appends one batch and returns the offsets assigned to it.
    ///
    /// Durable on return as the topic's settings say. Not cancellable once begun: the outcome is always known.
    /// - Throws: `.corruptBatch`, `.invalidRecord` and `.invalidTimestamp` (see ``EventLogError/records``), `.messageTooLarge`,
    ///   `.unknownTopic`, `.unknownPartition`, `.diskFull`, `.inputOutput`, `.partitionStopped`, `.overloaded`, `.closed`, and for
    ///   batches of idempotent producers `.outOfOrderSequence`, `.unknownProducer`, `.invalidProducerEpoch` and
    ///   `.invalidTransactionState`; the batch is then not in the log, except that after `.partitionStopped` it may turn up when
    ///   the engine is started again.
    func append(_ batch: [UInt8], to partition: TopicPartition) async throws -> AppendResult

    /// Returns whole batches from the one that holds `offset` on, waiting up to `wait` for one to be appended.
    ///
    /// The first batch is returned whatever its size, further ones while they fit `bytesMax`. A reader of committed
    /// records waits where a transaction is open, and is given the bytes as stored: see
    /// ``ReadResult/abortedTransactions``.
    /// - Throws: `.offsetOutOfRange` below the start or beyond the end, `.damaged`, `.unknownTopic`, `.unknownPartition`,
    ///   `CancellationError` when the task is cancelled while waiting.
    func read(
        _ partition: TopicPartition,
        from offset: Int64,
        bytesMax: Int,
        wait: Duration,
        isolation: ReadIsolation
    ) async throws -> ReadResult

    /// Returns the first record whose timestamp is `timestamp` or later, or `nil` when there is none.
    ///
    /// In a compressed batch the answer is the batch's first offset.
    func offset(
        _ partition: TopicPartition,
        atOrAfter timestamp: Int64
    ) async throws -> (offset: Int64, timestamp: Int64)?

    /// Returns the first offset still held, the offset the next record will get, and the one in front of which all
    /// transactions have ended.
    func bounds(_ partition: TopicPartition) throws -> (start: Int64, end: Int64, stable: Int64)

    /// Records how far a group has come; on disk on return, all or nothing.
    ///
    /// - Throws: `.unknownTopic`, `.unknownPartition`, `.invalidSettings`, `.messageTooLarge` (metadata), `.diskFull`.
    func commit(group: String, offsets: [TopicPartition: CommittedOffset]) async throws

    /// Returns what a group has committed; empty for an unknown group.
    func committed(group: String) async throws -> [TopicPartition: CommittedOffset]

    /// Returns the names of all groups that have committed offsets, ordered.
    func groups() async -> [String]

    /// Forgets everything a group has committed; no error when there is nothing.
    func deleteGroup(_ group: String) async throws

    /// Returns all damage found so far.
    func damage() -> [DamageReport]
}

extension EventLog {
    /// Reads committed records, waiting up to `wait` for some; those of aborted transactions are taken out.
    ///
    /// So there may be no bytes though ``ReadResult/nextOffset`` has moved on.
    /// - Throws: as ``read(_:from:bytesMax:wait:isolation:)``.
    package func read(
        _ partition: TopicPartition,
        from offset: Int64,
        bytesMax: Int,
        wait: Duration = .zero
    ) async throws -> ReadResult {
        try await read(partition, from: offset, bytesMax: bytesMax, wait: wait, isolation: .committed).removingAborted()
    }
}
