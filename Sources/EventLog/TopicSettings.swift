// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// How a topic keeps its records.
package struct TopicSettings: Codable, Hashable, Sendable {
    /// What an acknowledged append has survived.
    package enum Durability: String, Codable, Sendable, CaseIterable {
        /// The records are on disk (`fdatasync` returned) before the append is acknowledged.
        case onDisk = "on_disk"
        /// Acknowledged from the page cache and flushed about once a second: a killed engine loses nothing, a power
        /// failure or kernel crash loses what was acknowledged since the last flush.
        case powerFailureLosesLastSecond = "power_failure_loses_last_second"
    }

    /// Segments whose newest record is older than this are deleted; `nil` keeps records for ever.
    package var retentionMilliseconds: Int64?
    /// The oldest segments of a partition are deleted while the rest still holds this much; `nil` is no limit.
    package var retentionBytes: Int64?
    /// A segment is closed before it grows beyond this size.
    package var segmentBytes: Int64
    /// A segment is closed when it has been open for this long.
    package var segmentMilliseconds: Int64
    /// The largest batch accepted, header included.
    package var messageBytesMax: Int32
    /// What an acknowledged append has survived.
    package var durability: Durability

    /// Creates settings; the defaults are a week of records, segments of 128 MiB or a day, batches up to 1 MiB, on
    /// disk.
    package init(
        retentionMilliseconds: Int64? = 7 * 24 * 3_600_000,
        retentionBytes: Int64? = nil,
        segmentBytes: Int64 = 128 << 20,
        segmentMilliseconds: Int64 = 24 * 3_600_000,
        messageBytesMax: Int32 = 1_048_588,
        durability: Durability = .onDisk
    ) {
        self.retentionMilliseconds = retentionMilliseconds
        self.retentionBytes = retentionBytes
        self.segmentBytes = segmentBytes
        self.segmentMilliseconds = segmentMilliseconds
        self.messageBytesMax = messageBytesMax
        self.durability = durability
    }

    /// Refuses values that no log could honour.
    ///
    /// - Throws: `.invalidSettings` naming the field, the value and the range.
    package func validate() throws(EventLogError) {
        func check(_ holds: Bool, _ text: String) throws(EventLogError) {
            guard holds else { throw EventLogError(.invalidSettings, text) }
        }
        try check(retentionMilliseconds ?? 0 >= 0, "retentionMilliseconds \(retentionMilliseconds ?? 0) is negative")
        try check(retentionBytes ?? 0 >= 0, "retentionBytes \(retentionBytes ?? 0) is negative")
        try check(
            (1024...1 << 30).contains(segmentBytes),
            "segmentBytes \(segmentBytes) is outside 1024...1073741824 (1 KiB to 1 GiB)"
        )
        try check(segmentMilliseconds >= 1, "segmentMilliseconds \(segmentMilliseconds) is below 1")
        try check(
            (256...256 << 20).contains(messageBytesMax),
            "messageBytesMax \(messageBytesMax) is outside 256...268435456 (256 bytes to 256 MiB)"
        )
    }
}
