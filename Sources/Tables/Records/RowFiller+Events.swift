// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// The event attributes of a record.
struct EventAttributes {
    var id: StringEntry?
    var type: StringEntry?
    var source: StringEntry?
    var subject: StringEntry?
    var traceID: StringEntry?
    /// Whether the value is a whole event in JSON (structured content mode).
    var isStructured = false
}

// Headers and events.
extension RowFiller {
    /// Reads the attributes in a record's headers; of several headers of a name the last counts.
    mutating func attributes(_ record: RawRecord) -> EventAttributes {
        var found = EventAttributes()
        var p = record.headers
        let end = record.headersEnd
        for _ in 0..<record.headerCount {
            guard let header = RawRecordCursor.header(&p, end) else { break }
            guard let value = header.value else { continue }
            let count = header.valueCount
            switch (header.nameCount, header.name.pointee) {
            case (5, _) where Self.isName(header, "ce_id"): found.id = arena.text(value, count)
            case (7, _) where Self.isName(header, "ce_type"): found.type = arena.text(value, count)
            case (9, _) where Self.isName(header, "ce_source"): found.source = arena.text(value, count)
            case (10, _) where Self.isName(header, "ce_subject"): found.subject = arena.text(value, count)
            case (11, _) where Self.isName(header, "traceparent"), (14, _) where Self.isName(header, "ce_traceparent"):
                if let trace = traceID(value, count) { found.traceID = trace }
            case (12, _) where Self.isName(header, "content-type"):
                found.isStructured = Self.isStructuredType(value, count)
            default: break
            }
        }
        if found.id != nil { found.isStructured = false }
        return found
    }

    private static func isName(_ header: RawHeader, _ name: StaticString) -> Bool {
        header.nameCount == name.utf8CodeUnitCount && memcmp(header.name, name.utf8Start, header.nameCount) == 0
    }

    private static func isStructuredType(_ value: Bytes, _ count: Int) -> Bool {
        let name: StaticString = "application/cloudevents+json"
        guard count >= name.utf8CodeUnitCount,
            strncasecmp(
                UnsafeRawPointer(value).assumingMemoryBound(to: CChar.self),
                UnsafeRawPointer(name.utf8Start).assumingMemoryBound(to: CChar.self),
                name.utf8CodeUnitCount
            ) == 0
        else { return false }
        return count == name.utf8CodeUnitCount || value[name.utf8CodeUnitCount] == 0x3B
            || value[name.utf8CodeUnitCount] == 0x20
    }

    /// The 32 hexadecimal digits of a W3C `traceparent`, nil when it is none.
    private mutating func traceID(_ value: Bytes, _ count: Int) -> StringEntry? {
        guard count >= 55, value[2] == 0x2D, value[35] == 0x2D else { return nil }
        var isZero = true
        for index in 3..<35 {
            let byte = value[index]
            guard byte &- 0x30 <= 9 || byte &- 0x61 <= 5 else { return nil }
            if byte != 0x30 { isZero = false }
        }
        return isZero ? nil : arena.entry(value + 3, 32)
    }

    /// Puts a record's headers behind those of the rows before.
    static func storeHeaders(_ record: RawRecord, _ arena: inout ByteArena, _ memory: inout SystemMemory) {
        guard record.headerCount > 0 else { return }
        let place = memory.headers.place(memory.count)
        place.storeBytes(of: UInt64(memory.headerCount), as: UInt64.self)
        place.storeBytes(of: UInt64(record.headerCount), toByteOffset: 8, as: UInt64.self)
        var p = record.headers
        let end = record.headersEnd
        for _ in 0..<record.headerCount {
            // The record's walk has read the same headers without a fault.
            guard let header = RawRecordCursor.header(&p, end) else { break }
            memory.headerNames.store(arena.text(header.name, header.nameCount), at: memory.headerCount)
            if let value = header.value {
                memory.headerValues.store(arena.entry(value, header.valueCount), at: memory.headerCount)
            }
            memory.headerCount += 1
        }
    }

    /// Takes the attributes and the data out of an event in JSON; returns why that is not possible.
    ///
    /// `value` stays as it is when the event has no data.
    mutating func openEvent(
        _ value: inout (start: Bytes, end: Bytes)?,
        _ attributes: inout EventAttributes
    ) -> String? {
        guard let whole = value else { return "the record has no value" }
        value = nil
        guard let members = members(whole.start, whole.end) else {
            return "the structured CloudEvent cannot be read: \(faultText(whole.start, whole.end))"
        }
        var isText = false
        var data: Member?
        var encoded: Member?
        for member in members {
            let isString = member.start.pointee == 0x22
            switch String(decoding: member.name, as: UTF8.self) {
            case "id" where isString: attributes.id = string(member.start, member.end)
            case "type" where isString: attributes.type = string(member.start, member.end)
            case "source" where isString: attributes.source = string(member.start, member.end)
            case "subject" where isString: attributes.subject = string(member.start, member.end)
            case "traceparent" where isString:
                if let trace = traceID(member.start + 1, member.end - member.start - 2) { attributes.traceID = trace }
            case "datacontenttype" where isString:
                let type = String(
                    decoding: UnsafeBufferPointer(start: member.start, count: member.end - member.start),
                    as: UTF8.self
                )
                isText = !type.lowercased().contains("json")
            case "data": data = member
            case "data_base64" where isString: encoded = member
            default: break
            }
        }
        guard attributes.id != nil, attributes.source != nil, attributes.type != nil else {
            return "the structured CloudEvent lacks one of the texts id, source and type"
        }
        if let data, data.start.pointee == 0x22, isText {
            let room = data.end - data.start + 32
            let place = arena.allocate(room)
            let count = JSONText.unescape(data.start + 1, data.end - 1, into: place)
            memset(place + count, 0, room - count)
            value = (UnsafePointer(place), UnsafePointer(place + count))
        } else if let data, data.start.pointee != 0x6E {
            value = (data.start, data.end)
        } else if let encoded {
            guard let decoded = decodeBase64(encoded.start + 1, encoded.end - 1) else {
                return "the structured CloudEvent's data_base64 is no base64"
            }
            value = decoded
        }
        return nil
    }

    private mutating func decodeBase64(_ start: Bytes, _ end: Bytes) -> (start: Bytes, end: Bytes)? {
        let room = end - start + 32
        let place = arena.allocate(room)
        memset(place, 0, room)
        var (bits, bitCount, count) = (UInt32(0), UInt32(0), 0)
        var p = start
        while p < end, p.pointee != 0x3D {
            let value: UInt8
            switch p.pointee {
            case 0x41...0x5A: value = p.pointee - 0x41
            case 0x61...0x7A: value = p.pointee - 0x61 + 26
            case 0x30...0x39: value = p.pointee - 0x30 + 52
            case 0x2B, 0x2D: value = 62
            case 0x2F, 0x5F: value = 63
            default: return nil
            }
            bits = bits << 6 | UInt32(value)
            bitCount += 6
            if bitCount >= 8 {
                bitCount -= 8
                place[count] = UInt8(truncatingIfNeeded: bits >> bitCount)
                count += 1
            }
            p += 1
        }
        return (UnsafePointer(place), UnsafePointer(place + count))
    }
}
