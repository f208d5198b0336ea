// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import KafkaCodec

/// A record on its way through a deployment, from the fetch to its completion.
package struct PendingEvent: Sendable {
    /// What must be delivered one after the other: a key, or a whole partition.
    struct Lane: Hashable, Sendable {
        var input: Int
        var partition: Int32
        var key: ArraySlice<UInt8>?
    }

    /// Index of the plan's input.
    package let input: Int
    package let partition: Int32
    package let record: RecordView
    let lane: Lane?
    /// Failed attempts so far.
    package var failures = 0
    /// Whether it goes to a worker alone, because a worker died while running it beside others.
    package var isIsolated = false
    /// Number of the batch it is delivered in; 0 outside batches.
    package var batch = 0
    /// When it was sent to a worker, microseconds since 1970.
    var sentMicros: Int64 = 0
    /// Span of the current attempt.
    var spanID: UInt64 = 0

    init(input: Int, partition: Int32, record: RecordView, lane: Lane?) {
        self.input = input
        self.partition = partition
        self.record = record
        self.lane = lane
    }
}
