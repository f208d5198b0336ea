// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import KafkaCodec
internal import MartletCore

// Records that are not plain, and rejects.
extension RowFiller {
    /// Adds a record of any kind.
    @inline(never)
    mutating func addSlowly(_ record: RawRecord) {
        var attributes = record.headerCount > 0 ? attributes(record) : EventAttributes()
        var value = record.value.map { (start: $0, end: $0 + record.valueCount) }
        let eventFault = attributes.isStructured ? openEvent(&value, &attributes) : nil
        if settings.format == .raw {
            addRaw(record, attributes)
            return
        }
        if let eventFault {
            reject(record, eventFault)
            return
        }
        guard let value else {
            reject(record, "the record has no value; a json table takes one JSON object in each record")
            return
        }
        if !fill(value.start, value.end) {
            if let reason = examine(value.start, value.end) {
                reject(record, reason)
                return
            }
            guard fill(value.start, value.end) else {
                reject(record, "the value cannot be stored in the table's columns")
                return
            }
        }
        commitRow(record)
        if let key = record.key { rows.key.store(arena.entry(key, record.keyCount), at: rows.count) }
        Self.storeHeaders(record, &arena, &rows)
        storeAttributes(attributes)
        rows.count += 1
    }

    private mutating func addRaw(_ record: RawRecord, _ attributes: EventAttributes) {
        commitRow(record)
        Self.storePayload(record, &arena, &rows)
        storeAttributes(attributes)
        rows.count += 1
    }

    mutating func storeAttributes(_ attributes: EventAttributes) {
        let row = rows.count
        if let id = attributes.id { rows.id.store(id, at: row) }
        if let type = attributes.type { rows.type.store(type, at: row) }
        if let source = attributes.source { rows.source.store(source, at: row) }
        if let subject = attributes.subject { rows.subject.store(subject, at: row) }
        if let traceID = attributes.traceID { rows.traceID.store(traceID, at: row) }
    }

    private static func storePayload(_ record: RawRecord, _ arena: inout ByteArena, _ memory: inout SystemMemory) {
        if let key = record.key { memory.key.store(arena.entry(key, record.keyCount), at: memory.count) }
        if let value = record.value { memory.value.store(arena.entry(value, record.valueCount), at: memory.count) }
        storeHeaders(record, &arena, &memory)
    }

    /// Adds a record to the rejects, just as it is.
    mutating func reject(_ record: RawRecord, _ reason: String) {
        let row = rejects.count
        rejects.partition.store(partition, at: row)
        rejects.offset.store(record.offset, at: row)
        if let micros = Self.micros(record.timestamp) { rejects.timestamp.store(micros, at: row) }
        Self.storePayload(record, &arena, &rejects)
        rejects.reason.store(arena.text(reason), at: row)
        rejects.count += 1
    }

    // MARK: Batches

    /// Adds the records of a batch, of which 32 bytes more can be read, from an offset on.
    ///
    /// - Returns: The offset of the first record that would take more memory than there may be; nil where all are added.
    mutating func addBatch(_ start: Bytes, _ header: RecordBatchHeader, from: Int64, memoryMax: Int) -> Int64? {
        var cursor = RawRecordCursor(
            start + RecordBatchHeader.byteCount,
            start + header.batchByteCount,
            baseOffset: header.baseOffset,
            lastOffsetDelta: Int64(header.lastOffsetDelta),
            baseTimestamp: header.baseTimestamp,
            appendTime: header.hasLogAppendTime ? header.maxTimestamp : nil
        )
        var newest = maxTimestamp ?? .min
        var expected = header.baseOffset
        defer { if newest > .min { maxTimestamp = newest } }
        for _ in 0..<header.recordCount {
            guard let record = cursor.next(), record.offset >= expected else {
                rejectBatch(header, from: max(expected, from), "the record at offset \(expected) cannot be read")
                return nil
            }
            expected = record.offset &+ 1
            if record.offset < from { continue }
            untilLook -= 1 + record.valueCount >> 10
            if untilLook < 0 {
                untilLook = Self.recordsBetweenLooks
                if memoryBytes > memoryMax, rows.count + rejects.count > 0 { return record.offset }
            }
            if record.timestamp > newest { newest = record.timestamp }
            add(record)
        }
        if !cursor.isAtEnd, header.lastOffset >= from {
            // What follows has no offsets of its own.
            rejectBatch(
                header,
                from: header.lastOffset,
                "bytes are left after the last of \(header.recordCount) records"
            )
        }
        return nil
    }

    /// How many small records, or KiB of large ones, are added before the memory is looked at again.
    private static let recordsBetweenLooks = 256

    /// Bytes of memory it holds.
    var memoryBytes: Int {
        var sum = arena.memoryBytes + rows.memoryBytes + rejects.memoryBytes
        for index in 0..<stateCount { sum += states[index].memory.memoryBytes }
        return sum
    }

    /// Adds one reject for all records of a batch from an offset on.
    mutating func rejectBatch(_ header: RecordBatchHeader?, from: Int64, next: Int64? = nil, _ fault: String) {
        let last = (next ?? header?.nextOffset ?? from + 1) - 1
        let nothing = UnsafePointer(keys.entries[0].text)
        let record = RawRecord(
            offset: from,
            timestamp: header?.maxTimestamp ?? 0,
            key: nil,
            keyCount: 0,
            value: nil,
            valueCount: 0,
            headerCount: 0,
            headers: nothing,
            headersEnd: nothing
        )
        reject(record, "records \(from) to \(last) are lost to the table: \(fault)")
    }
}
