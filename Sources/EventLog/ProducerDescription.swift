// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// What a partition knows of an idempotent producer.
package struct ProducerDescription: Hashable, Sendable {
    /// The producer's id.
    package let producerID: Int64
    /// Its latest epoch.
    package let epoch: Int16
    /// The sequence number of its last record; `nil` where this epoch has sent none.
    package let lastSequence: Int32?
    /// When it last appended, in milliseconds since 1970.
    package let lastTimestamp: Int64
    /// The epoch of the coordinator that ended its last transaction; -1 for none.
    package let coordinatorEpoch: Int32
    /// The first offset of its open transaction.
    package let transactionStart: Int64?
}
