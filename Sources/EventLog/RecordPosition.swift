// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Where a produced record stands.
package struct RecordPosition: Hashable, Sendable {
    /// The partition.
    package let partition: Int32
    /// The offset in the partition.
    package let offset: Int64

    /// Names a place.
    package init(partition: Int32, offset: Int64) {
        self.partition = partition
        self.offset = offset
    }
}
