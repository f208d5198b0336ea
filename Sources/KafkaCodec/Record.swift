// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// One header of a record to be produced.
package struct RecordHeader: Hashable, Sendable {
    /// The header's name, UTF-8 on the wire.
    package var key: String
    /// The header's value; `nil` is Kafka's null.
    package var value: [UInt8]?

    /// Creates a header.
    package init(key: String, value: [UInt8]?) {
        self.key = key
        self.value = value
    }

    /// Creates a header whose value is the UTF-8 form of a string.
    package init(key: String, string: String) {
        self.init(key: key, value: Array(string.utf8))
    }
}

/// One record to be produced.
package struct Record: Hashable, Sendable {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    package var timestamp: Int64
    /// The partitioning key; `nil` is Kafka's null.
    package var key: [UInt8]?
    /// The payload; `nil` is Kafka's null (a tombstone in compacted topics).
    package var value: [UInt8]?
    /// Headers in order; names may repeat.
    package var headers: [RecordHeader]

    /// Creates a record.
    package init(timestamp: Int64, key: [UInt8]? = nil, value: [UInt8]?, headers: [RecordHeader] = []) {
        self.timestamp = timestamp
        self.key = key
        self.value = value
        self.headers = headers
    }

    /// The most bytes this record can take inside a batch.
    package var encodedBytesMax: Int {
        // Length 5, attributes 1, timestamp delta 10, offset delta 5, key, value and header count 5 each.
        var total = 36 + (key?.count ?? 0) + (value?.count ?? 0)
        for header in headers { total += 10 + header.key.utf8.count + (header.value?.count ?? 0) }
        return total
    }
}
