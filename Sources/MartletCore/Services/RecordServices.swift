// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// One record of a topic as it was read.
package struct TopicRecord: Sendable, Equatable {
    /// A name and a value; names may repeat.
    package struct Header: Sendable, Equatable {
        package var name: String
        package var value: [UInt8]?

        package init(name: String, value: [UInt8]?) {
            self.name = name
            self.value = value
        }
    }

    package var partition: Int32
    package var offset: Int64
    /// Milliseconds since 1970.
    package var timestamp: Int64
    package var key: [UInt8]?
    package var value: [UInt8]?
    package var headers: [Header]

    package init(
        partition: Int32,
        offset: Int64,
        timestamp: Int64,
        key: [UInt8]?,
        value: [UInt8]?,
        headers: [Header] = []
    ) {
        self.partition = partition
        self.offset = offset
        self.timestamp = timestamp
        self.key = key
        self.value = value
        self.headers = headers
    }
}

/// One record to be written.
package struct NewRecord: Sendable, Equatable {
    /// Where it goes; `nil` lets the key choose as Kafka's clients do.
    package var partition: Int32?
    /// Milliseconds since 1970; `nil` is now.
    package var timestamp: Int64?
    package var key: [UInt8]?
    package var value: [UInt8]?
    package var headers: [TopicRecord.Header]

    package init(
        partition: Int32? = nil,
        timestamp: Int64? = nil,
        key: [UInt8]? = nil,
        value: [UInt8]? = nil,
        headers: [TopicRecord.Header] = []
    ) {
        self.partition = partition
        self.timestamp = timestamp
        self.key = key
        self.value = value
        self.headers = headers
    }
}

/// Where a record stands.
package struct RecordPlace: Sendable, Equatable {
    package var partition: Int32
    package var offset: Int64

    package init(partition: Int32, offset: Int64) {
        self.partition = partition
        self.offset = offset
    }
}

/// Where reading begins.
package enum RecordStart: Sendable, Equatable {
    case earliest
    case latest
    case offset(Int64)
    /// So many offsets in front of each partition's end.
    case last(Int64)
    /// The first record of this time, in milliseconds since 1970, or later.
    case timestamp(Int64)
}

/// The next offset to read of each partition.
package struct TopicPosition: Sendable, Equatable {
    package var offsets: [Int32: Int64]

    package init(_ offsets: [Int32: Int64]) {
        self.offsets = offsets
    }

    /// Reads what ``text`` makes; `nil` for anything else.
    package init?(_ text: String) {
        var offsets: [Int32: Int64] = [:]
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let numbers = part.split(separator: ":", omittingEmptySubsequences: false)
            guard numbers.count == 2, let partition = Int32(numbers[0]), let offset = Int64(numbers[1]),
                partition >= 0, offset >= 0, offsets.updateValue(offset, forKey: partition) == nil
            else { return nil }
        }
        guard !offsets.isEmpty else { return nil }
        self.offsets = offsets
    }

    /// `0:17,1:4`: partition and offset, ordered by partition.
    package var text: String {
        offsets.sorted { $0.key < $1.key }.map { "\($0.key):\($0.value)" }.joined(separator: ",")
    }
}

/// What one look at a topic found.
package struct RecordPage: Sendable {
    /// In order of offset within each partition.
    package var records: [TopicRecord]
    /// Where to go on.
    package var next: TopicPosition
    /// The offset after the last readable record of each partition.
    package var ends: [Int32: Int64]

    package init(records: [TopicRecord], next: TopicPosition, ends: [Int32: Int64]) {
        self.records = records
        self.next = next
        self.ends = ends
    }

    /// Whether nothing was left to read.
    package var isAtEnd: Bool { next.offsets.allSatisfy { $0.value >= ends[$0.key] ?? 0 } }
}

/// Records of topics, read by place or time and written one by one.
package protocol RecordServices: Sendable {
    /// Writes records and returns where each stands, in their order; durable on return.
    ///
    /// - Throws: `ServiceError` `.notFound`, `.invalid`, `.forbidden` for the engine's own topics.
    func append(_ topic: String, _ records: [NewRecord]) async throws -> [RecordPlace]

    /// Returns the place where reading begins, in these partitions or in all.
    func start(_ topic: String, partitions: [Int32]?, at start: RecordStart) async throws -> TopicPosition

    /// Adds the partitions that a cursor does not name from their beginning.
    func completed(_ cursor: TopicPosition, _ topic: String) async throws -> TopicPosition

    /// Returns up to `limit` committed records of about `bytesMax` bytes, at least one where there is one; does not wait.
    ///
    /// A place whose records retention has taken is the first record left.
    /// - Throws: `ServiceError` `.notFound`, `.invalid` for a place beyond the end.
    func read(_ topic: String, from cursor: TopicPosition, limit: Int, bytesMax: Int) async throws -> RecordPage

    /// Waits for a record at or behind the cursor; false when the time is up.
    func wait(_ topic: String, behind cursor: TopicPosition, atMost duration: Duration) async throws -> Bool
}
