// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import Catalog
internal import Glibc

// Records of a keyed table: rows without system columns, and records that delete the row of their key.
extension RowFiller {
    /// Adds a record as a row, as the deletion of its key, or as a reject.
    mutating func addKeyed(_ record: RawRecord) {
        var value = record.value.map { (start: $0, end: $0 + record.valueCount) }
        var isDeletion = false
        var attributes = EventAttributes()
        if record.headerCount > 0 {
            attributes = self.attributes(record)
            if attributes.isStructured, value != nil {
                if let fault = openEvent(&value, &attributes) { return reject(record, fault) }
                if value == nil { return reject(record, "the event has no data, so nothing says which row it is for") }
            }
        }
        if value == nil {
            switch keyObject(record) {
            case .success(let object): value = object
            case .failure(let fault): return reject(record, fault.text)
            }
            isDeletion = true
        }
        guard let value else { return }
        if !fill(value.start, value.end) {
            if let members = members(value.start, value.end), let fault = keyFault(members) {
                return reject(record, fault)
            }
            if let reason = examine(value.start, value.end) { return reject(record, reason) }
            guard fill(value.start, value.end) else {
                return reject(record, "the value cannot be stored in the table's columns")
            }
        }
        for place in keyPlaces where states[place].stamp != stamp || !states[place].memory.isValid(rows.count) {
            eraseRow()
            return reject(record, Self.missing(columns[place].name))
        }
        if settings.keepsOrigin {
            commitRow(record)
            storeAttributes(attributes)
        }
        if isDeletion { rows.deletes.store(true, at: rows.count) }
        rows.count &+= 1
    }

    private static func missing(_ column: String) -> String {
        "the key column \"\(column)\" is missing or null, so nothing says which row the record is for"
    }

    /// Why an object names no row; before its fields can become columns, because a reject changes none.
    private func keyFault(_ members: [Member]) -> String? {
        for place in keyPlaces {
            let wanted = Self.folded(Array(columns[place].name.utf8))
            let member = members.first { Self.folded($0.name) == wanted }
            if member == nil || member?.start.pointee == 0x6E { return Self.missing(columns[place].name) }
        }
        return nil
    }

    private struct KeyFault: Error {
        var text: String
    }

    /// The key of a record without a value as an object of the key's columns, so that it is read with their types.
    private mutating func keyObject(_ record: RawRecord) -> Result<(start: Bytes, end: Bytes), KeyFault> {
        guard let key = record.key, record.keyCount > 0 else {
            return .failure(
                KeyFault(text: "the record has neither a value nor a key, so nothing says which row to delete")
            )
        }
        let end = key + record.keyCount
        var object: [UInt8] = []
        // The scan reads a little behind what it scans.
        let room = record.keyCount + Self.padding
        let copy = arena.allocate(room)
        memcpy(copy, key, record.keyCount)
        memset(copy + record.keyCount, 0, Self.padding)
        let text = (start: UnsafePointer(copy), end: UnsafePointer(copy + record.keyCount))
        if let members = members(text.start, text.end), keyPlaces.count > 1 || keyFault(members) == nil {
            if let fault = keyFault(members) { return .failure(KeyFault(text: "in the record's key " + fault)) }
            for place in keyPlaces {
                let wanted = Self.folded(Array(columns[place].name.utf8))
                guard let member = members.last(where: { Self.folded($0.name) == wanted }) else { continue }
                Self.add(
                    columns[place].name,
                    UnsafeBufferPointer(start: member.start, count: member.end - member.start),
                    &object
                )
            }
        } else if keyPlaces.count == 1 {
            let whole = UnsafeBufferPointer(start: text.start, count: text.end - text.start)
            if isScalar(text.start, text.end) {
                Self.add(columns[keyPlaces[0]].name, whole, &object)
            } else {
                let literal = Self.literal(UnsafeBufferPointer(start: key, count: end - key))
                literal.withUnsafeBufferPointer { Self.add(columns[keyPlaces[0]].name, $0, &object) }
            }
        } else {
            let names = keyPlaces.map { "\"\(columns[$0].name)\"" }.joined(separator: ", ")
            return .failure(
                KeyFault(
                    text: "the record has no value, and its key is no JSON object with \(names), so no row is named"
                )
            )
        }
        object.append(0x7D)
        let place = arena.allocate(object.count + Self.padding)
        object.withUnsafeBufferPointer { bytes in
            if let base = bytes.baseAddress { memcpy(place, base, bytes.count) }
        }
        memset(place + object.count, 0, Self.padding)
        return .success((UnsafePointer(place), UnsafePointer(place + object.count)))
    }

    private static let padding = 32

    /// Whether a text is one JSON string, number or boolean.
    private mutating func isScalar(_ start: Bytes, _ end: Bytes) -> Bool {
        let p = JSONText.skipSpace(start, end)
        guard p < end, p.pointee != 0x7B, p.pointee != 0x5B, p.pointee != 0x6E else { return false }
        guard let valueEnd = text.valueEnd(p, end, outer: 0) else { return false }
        return JSONText.skipSpace(valueEnd, end) == end
    }

    /// Puts a member behind those an object has; the closing brace is left to the caller.
    private static func add(_ name: String, _ value: UnsafeBufferPointer<UInt8>, _ object: inout [UInt8]) {
        object.append(object.isEmpty ? 0x7B : 0x2C)
        var name = name
        object += name.withUTF8 { literal($0) }
        object.append(0x3A)
        object += value
    }

    /// A text as a JSON string.
    private static func literal(_ bytes: UnsafeBufferPointer<UInt8>) -> [UInt8] {
        let digits = Array("0123456789abcdef".utf8)
        var literal: [UInt8] = [0x22]
        for byte in bytes {
            if byte == 0x22 || byte == 0x5C {
                literal += [0x5C, byte]
            } else if byte < 0x20 {
                literal += Array("\\u00".utf8) + [digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            } else {
                literal.append(byte)
            }
        }
        return literal + [0x22]
    }
}
