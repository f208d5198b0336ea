// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// A producer id together with an epoch: of all producers with the id only the one with the highest epoch may write.
package struct ProducerIdentity: Hashable, Sendable, CustomStringConvertible {
    /// The producer id.
    package var id: Int64
    /// The epoch, from 0.
    package var epoch: Int16

    /// Names a producer.
    package init(id: Int64, epoch: Int16) {
        self.id = id
        self.epoch = epoch
    }

    package var description: String { "producer \(id) epoch \(epoch)" }

    /// Whether no further epoch may be given to a producer: the last one is kept for ending its last transaction.
    var isExhausted: Bool { epoch >= Int16.max - 1 }
}
