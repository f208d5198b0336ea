// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore

/// Records on their way into the log: their bodies as batches have them, and where each is to go.
package struct EncodedRecords: Sendable {
    /// One record, or why it is none.
    package struct Item: Sendable {
        /// Its body among ``EncodedRecords/bodies``.
        package var body: Range<Int>
        /// Its topic's place in ``EncodedRecords/topics``.
        package var topic: Int
        /// The hash of its key, as Kafka's partitioner makes it; nil without a key.
        package var keyHash: UInt32?
        /// The partition wanted, in place of the key's.
        package var partition: Int32?
        /// Why it is refused.
        package var fault: ServiceError?

        /// Describes a record.
        package init(
            body: Range<Int>,
            topic: Int,
            keyHash: UInt32? = nil,
            partition: Int32? = nil,
            fault: ServiceError? = nil
        ) {
            self.body = body
            self.topic = topic
            self.keyHash = keyHash
            self.partition = partition
            self.fault = fault
        }
    }

    /// What a ``RecordBodyWriter`` has written.
    package var bodies: [UInt8]
    /// The names of the topics; one may stand there twice.
    package var topics: [String]
    /// The records, in their order.
    package var items: [Item]

    /// Describes records.
    package init(bodies: [UInt8], topics: [String], items: [Item]) {
        self.bodies = bodies
        self.topics = topics
        self.items = items
    }
}

/// What became of a record.
package struct PublishOutcome: Sendable {
    /// The partition it is in.
    package var partition: Int32 = -1
    /// Its offset there.
    package var offset: Int64 = -1
    /// Why it is not in the log; partition and offset then mean nothing.
    package var error: ServiceError?
}
