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

    /// Which record stays where several have the same key, and for how long the others do.
    package struct Compaction: Codable, Hashable, Sendable {
        /// Whether retention deletes segments as well.
        package var alsoDeletes: Bool
        /// Compaction is due when at least this share of a partition's closed segments has not been compacted, 0 to 1.
        package var dirtyRatio: Double
        /// How long a tombstone stays after it was compacted for the first time.
        package var deleteRetentionMilliseconds: Int64
        /// Segments with younger records are left alone.
        package var lagMillisecondsMin: Int64
        /// Compaction is due when a segment is older, whatever the share.
        package var lagMillisecondsMax: Int64

        /// Creates settings; the defaults are Kafka's.
        package init(
            alsoDeletes: Bool = false,
            dirtyRatio: Double = 0.5,
            deleteRetentionMilliseconds: Int64 = 24 * 3_600_000,
            lagMillisecondsMin: Int64 = 0,
            lagMillisecondsMax: Int64 = .max
        ) {
            self.alsoDeletes = alsoDeletes
            self.dirtyRatio = dirtyRatio
            self.deleteRetentionMilliseconds = deleteRetentionMilliseconds
            self.lagMillisecondsMin = lagMillisecondsMin
            self.lagMillisecondsMax = lagMillisecondsMax
        }
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
    /// How older records of a key are removed; `nil` keeps them all.
    package var compaction: Compaction?
    /// Whether records get the time at which the log took them (`LogAppendTime`) in place of the producer's.
    package var stampsAppendTime: Bool
    /// How far a record's timestamp may lie behind now; more is refused, unless the log gives records its own time.
    package var timestampBeforeMilliseconds: Int64
    /// How far a record's timestamp may lie ahead of now; as before.
    package var timestampAfterMilliseconds: Int64

    /// Whether there are timestamps that are refused.
    var limitsTimestamps: Bool {
        !stampsAppendTime && (timestampBeforeMilliseconds != .max || timestampAfterMilliseconds != .max)
    }

    /// The timestamps that are taken at this time.
    func timestamps(at now: Int64) -> ClosedRange<Int64> {
        let (first, isFirstBeyond) = now.subtractingReportingOverflow(timestampBeforeMilliseconds)
        let (last, isLastBeyond) = now.addingReportingOverflow(timestampAfterMilliseconds)
        return (isFirstBeyond || timestampBeforeMilliseconds == .max ? .min : first)...(isLastBeyond ? .max : last)
    }

    /// Whether retention deletes segments.
    var deletes: Bool { compaction?.alsoDeletes ?? true }

    /// Creates settings; the defaults are a week of records, segments of 128 MiB or a day, batches up to 1 MiB, on
    /// disk, with any timestamps.
    package init(
        retentionMilliseconds: Int64? = 7 * 24 * 3_600_000,
        retentionBytes: Int64? = nil,
        segmentBytes: Int64 = 128 << 20,
        segmentMilliseconds: Int64 = 24 * 3_600_000,
        messageBytesMax: Int32 = 1_048_588,
        durability: Durability = .onDisk,
        compaction: Compaction? = nil,
        stampsAppendTime: Bool = false,
        timestampBeforeMilliseconds: Int64 = .max,
        timestampAfterMilliseconds: Int64 = .max
    ) {
        self.retentionMilliseconds = retentionMilliseconds
        self.retentionBytes = retentionBytes
        self.segmentBytes = segmentBytes
        self.segmentMilliseconds = segmentMilliseconds
        self.messageBytesMax = messageBytesMax
        self.durability = durability
        self.compaction = compaction
        self.stampsAppendTime = stampsAppendTime
        self.timestampBeforeMilliseconds = timestampBeforeMilliseconds
        self.timestampAfterMilliseconds = timestampAfterMilliseconds
    }

    package init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            retentionMilliseconds: try fields.decodeIfPresent(Int64.self, forKey: .retentionMilliseconds),
            retentionBytes: try fields.decodeIfPresent(Int64.self, forKey: .retentionBytes),
            segmentBytes: try fields.decode(Int64.self, forKey: .segmentBytes),
            segmentMilliseconds: try fields.decode(Int64.self, forKey: .segmentMilliseconds),
            messageBytesMax: try fields.decode(Int32.self, forKey: .messageBytesMax),
            durability: try fields.decode(Durability.self, forKey: .durability),
            compaction: try fields.decodeIfPresent(Compaction.self, forKey: .compaction),
            // Older files do not have these.
            stampsAppendTime: try fields.decodeIfPresent(Bool.self, forKey: .stampsAppendTime) ?? false,
            timestampBeforeMilliseconds: try fields.decodeIfPresent(Int64.self, forKey: .timestampBeforeMilliseconds)
                ?? .max,
            timestampAfterMilliseconds: try fields.decodeIfPresent(Int64.self, forKey: .timestampAfterMilliseconds)
                ?? .max
        )
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
        try check(
            timestampBeforeMilliseconds >= 0 && timestampAfterMilliseconds >= 0,
            "a limit of timestamps is negative"
        )
        guard let compaction else { return }
        try check((0...1).contains(compaction.dirtyRatio), "dirtyRatio \(compaction.dirtyRatio) is outside 0...1")
        try check(
            compaction.deleteRetentionMilliseconds >= 0 && compaction.lagMillisecondsMin >= 0
                && compaction.lagMillisecondsMax >= 1,
            "a time of compaction is negative"
        )
    }
}
