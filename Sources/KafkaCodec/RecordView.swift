// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Glibc

/// One record inside fetched bytes: slices over the shared array, nothing copied.
package struct RecordView: Sendable {
    /// The record's offset in its partition.
    package let offset: Int64
    /// Milliseconds since 1970.
    package let timestamp: Int64
    private let bytes: [UInt8]
    private let keyRange: Range<Int>?
    private let valueRange: Range<Int>?
    private let headersStart: Int
    private let headersEnd: Int
    /// The number of headers.
    package let headerCount: Int

    /// The key, or `nil` for null.
    package var key: ArraySlice<UInt8>? { keyRange.map { bytes[$0] } }
    /// The value, or `nil` for null.
    package var value: ArraySlice<UInt8>? { valueRange.map { bytes[$0] } }
    /// The bytes of key, value and headers as they stand in the batch.
    package var contentByteCount: Int {
        (keyRange?.count ?? 0) + (valueRange?.count ?? 0) + headersEnd - headersStart
    }
    /// The headers in order, decoded as they are asked for.
    package var headers: RecordHeaders {
        RecordHeaders(bytes: bytes, position: headersStart, end: headersEnd, count: headerCount)
    }

    /// Returns the value of the last header with this name; `nil` when there is none or its value is null.
    ///
    /// The last one wins, as in Kafka's `Headers.lastHeader`.
    package func header(_ name: String) -> ArraySlice<UInt8>? {
        guard headerCount > 0 else { return nil }
        var name = name
        let found = name.withUTF8 { wanted in
            bytes.withUnsafeBufferPointer { all in Self.find(wanted, in: all, from: headersStart, count: headerCount) }
        }
        return found.map { bytes[$0] }
    }

    /// Where the value of the last header of a name stands.
    ///
    /// The fields were read without an error when the view was made, so lengths are trusted here and nothing is copied.
    private static func find(
        _ wanted: UnsafeBufferPointer<UInt8>,
        in all: UnsafeBufferPointer<UInt8>,
        from start: Int,
        count: Int
    ) -> Range<Int>? {
        var position = start
        var found: Range<Int>?
        for _ in 0..<count {
            let nameLength = length(all, &position)
            let name = position
            position += nameLength
            let valueLength = length(all, &position)
            if nameLength == wanted.count, let left = all.baseAddress, let right = wanted.baseAddress,
                memcmp(left + name, right, nameLength) == 0
            {
                found = valueLength < 0 ? nil : position..<position + valueLength
            }
            position += max(valueLength, 0)
        }
        return found
    }

    private static func length(_ all: UnsafeBufferPointer<UInt8>, _ position: inout Int) -> Int {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while true {
            let byte = all[position]
            position += 1
            value |= UInt64(byte & 0x7F) << shift
            if byte & 0x80 == 0 { break }
            shift += 7
        }
        return Int(Int64(bitPattern: value >> 1) ^ -Int64(bitPattern: value & 1))
    }

    /// Copies the record out of the fetched bytes, ready to be produced again.
    package func record() -> Record {
        Record(
            timestamp: timestamp,
            key: key.map { Array($0) },
            value: value.map { Array($0) },
            headers: headers.map { header in
                RecordHeader(key: String(decoding: header.name, as: UTF8.self), value: header.value.map { Array($0) })
            }
        )
    }

    /// Reads the record at the cursor, headers included, and leaves the cursor behind it.
    init(reading cursor: inout RecordCursor, of batch: RecordBatchHeader) throws(RecordBatchError) {
        let length = try cursor.varInt()
        guard length >= 0, length <= cursor.end - cursor.position else {
            throw RecordBatchError(.malformedRecord, "a record of \(length) bytes where fewer are left")
        }
        let batchEnd = cursor.end
        cursor.end = cursor.position + length
        defer { cursor.end = batchEnd }
        _ = try cursor.byte()
        let timestampDelta = try cursor.varLong()
        let offsetDelta = try cursor.varInt()
        guard offsetDelta >= 0, offsetDelta <= Int(batch.lastOffsetDelta) else {
            throw RecordBatchError(.malformedRecord, "offset delta \(offsetDelta) is outside the batch")
        }
        keyRange = try cursor.field(nullable: true, name: "key")
        valueRange = try cursor.field(nullable: true, name: "value")
        let count = try cursor.varInt()
        guard count >= 0, count <= (cursor.end - cursor.position) / 2 else {
            throw RecordBatchError(.malformedRecord, "\(count) headers do not fit the record")
        }
        headersStart = cursor.position
        for _ in 0..<count {
            _ = try cursor.field(nullable: false, name: "header name")
            _ = try cursor.field(nullable: true, name: "header value")
        }
        guard cursor.position == cursor.end else {
            throw RecordBatchError(.malformedRecord, "\(cursor.end - cursor.position) bytes are left after a record")
        }
        headersEnd = cursor.position
        headerCount = count
        bytes = cursor.bytes
        offset = batch.baseOffset + Int64(offsetDelta)
        timestamp = batch.hasLogAppendTime ? batch.maxTimestamp : batch.baseTimestamp &+ timestampDelta
    }
}

/// The headers of one record, decoded lazily.
package struct RecordHeaders: Sequence, IteratorProtocol, Sendable {
    /// One header: slices over the fetched bytes.
    package struct Element: Sendable {
        /// The name's UTF-8 bytes.
        package let name: ArraySlice<UInt8>
        /// The value, or `nil` for null.
        package let value: ArraySlice<UInt8>?
    }

    private var cursor: RecordCursor
    private var remaining: Int

    init(bytes: [UInt8], position: Int, end: Int, count: Int) {
        cursor = RecordCursor(bytes: bytes, position: position, end: end)
        remaining = count
    }

    /// Returns the next header.
    package mutating func next() -> Element? {
        guard remaining > 0 else { return nil }
        remaining -= 1
        do {
            guard let name = try cursor.field(nullable: false, name: "header name") else { return nil }
            let value = try cursor.field(nullable: true, name: "header value")
            return Element(name: cursor.bytes[name], value: value.map { cursor.bytes[$0] })
        } catch {
            // Not reached: a view is only made after the same fields had been read without an error.
            remaining = 0
            return nil
        }
    }
}
