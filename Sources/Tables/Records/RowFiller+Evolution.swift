// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import Catalog
internal import DuckDB
internal import Glibc
internal import MartletCore

/// A member of a record's object.
struct Member {
    /// The name without escapes.
    var name: [UInt8]
    /// The name as it stands in the record, quotes included.
    var key: Bytes
    var keyCount: Int
    /// The value's text.
    var start: Bytes
    var end: Bytes
}

// What the plain loop does not do: new columns, wider types, and the reasons of rejects.
extension RowFiller {
    private static let namelessMax = 4096
    private static let spellingsMax = 16_384

    /// What a value asks of its column.
    private enum Change {
        case name(ColumnKind)
        case column(type: String, hasLargeIntegers: Bool)
        case large(Int)
        case widen(Int, ColumnKind)
    }

    /// Finds the members of an object; nil with a fault when it is none.
    mutating func members(_ start: Bytes, _ end: Bytes) -> [Member]? {
        var p = JSONText.skipSpace(start, end)
        guard p < end else { return failMembers(.cutOff, p) }
        guard p.pointee == 0x7B else { return failMembers(.syntax, p) }
        var found: [Member] = []
        p = JSONText.skipSpace(p + 1, end)
        if p < end, p.pointee == 0x7D {
            p = JSONText.skipSpace(p + 1, end)
            return p == end ? found : failMembers(.syntax, p)
        }
        while true {
            guard p < end else { return failMembers(.cutOff, end) }
            guard p.pointee == 0x22 else { return failMembers(.syntax, p) }
            var hasEscapes = false
            guard let quote = text.stringEnd(p + 1, end, &hasEscapes) else { return nil }
            let name = [UInt8](unsafeUninitializedCapacity: quote - p + 4) { buffer, count in
                count = buffer.baseAddress.map { JSONText.unescape(p + 1, quote, into: $0) } ?? 0
            }
            let colon = JSONText.skipSpace(quote + 1, end)
            guard colon < end else { return failMembers(.cutOff, end) }
            guard colon.pointee == 0x3A else { return failMembers(.syntax, colon) }
            let value = JSONText.skipSpace(colon + 1, end)
            guard let valueEnd = text.valueEnd(value, end, outer: 1) else { return nil }
            found.append(Member(name: name, key: p, keyCount: quote + 1 - p, start: value, end: valueEnd))
            p = JSONText.skipSpace(valueEnd, end)
            guard p < end else { return failMembers(.cutOff, end) }
            let byte = p.pointee
            guard byte == 0x2C || byte == 0x7D else { return failMembers(.syntax, p) }
            p = JSONText.skipSpace(p + 1, end)
            if byte == 0x7D { return p == end ? found : failMembers(.syntax, p) }
        }
    }

    private mutating func failMembers(_ kind: JSONFault.Kind, _ at: Bytes) -> [Member]? {
        text.fault = JSONFault(kind: kind, at: at)
        return nil
    }

    /// Finds out why a value did not fit its columns, and changes them where the rules allow; nil when it now fits.
    mutating func examine(_ start: Bytes, _ end: Bytes) -> String? {
        guard let members = members(start, end) else { return objectFault(start, end) }
        var seen = Set<[UInt8]>(minimumCapacity: members.count)
        var changes: [(Member, Change)] = []
        var addedCount = 0
        stamp += 1
        for member in members {
            let folded = Self.folded(member.name)
            if let reason = nameFault(member, folded) { return reason }
            guard seen.insert(folded).inserted else {
                return "the field \(quoted(member.name)) appears twice, in capitals or not; leave one"
            }
            let isNull = member.start.pointee == 0x6E
            if let index = names[folded], states[index].place >= 0 {
                if isNull { continue }
                switch fit(index, member) {
                case .success(nil): break
                case .success(let change?): changes.append((member, change))
                case .failure(let fault): return fault.text
                }
                continue
            }
            switch settings.unknownFields {
            case .reject:
                return
                    "the field \(quoted(member.name)) is no column and the table rejects unknown fields; add it with "
                    + "--column \(String(decoding: member.name, as: UTF8.self))=TYPE, or use --unknown-fields add"
            case .ignore: changes.append((member, .name(.ignored)))
            case .add where isNull: changes.append((member, .name(.unused)))
            case .add:
                switch inferred(member) {
                case .success(let change): changes.append((member, change))
                case .failure(let fault): return fault.text
                }
                addedCount += 1
                guard columns.count + addedCount <= settings.columnsMax else {
                    return
                        "the field \(quoted(member.name)) would be column \(columns.count + addedCount), the table takes "
                        + "\(settings.columnsMax); put such fields into one object, which becomes one JSON column"
                }
            }
        }
        apply(changes, members)
        return nil
    }

    // MARK: Rules

    private struct Misfit: Error {
        var text: String
    }

    private func nameFault(_ member: Member, _ folded: [UInt8]) -> String? {
        if folded.isEmpty { return "a field has an empty name, which no column can have" }
        if folded.contains(0) {
            return "the field \(quoted(member.name)) has a NUL in its name, which no column can have"
        }
        if folded.count > 255 {
            return "the name of the field \(quoted(member.name)) has \(folded.count) bytes, a column's has at most 255"
        }
        if SystemColumns.isReserved(folded) {
            return "the field \(quoted(member.name)) has the name of a system column; rename it"
        }
        if settings.key.isEmpty, SystemColumns.isPartition(folded) {
            return "the field \(quoted(member.name)) has the name of a folder that the table's files are in; rename it"
        }
        return nil
    }

    private mutating func inferred(_ member: Member) -> Result<Change, Misfit> {
        switch member.start.pointee {
        case 0x22: return .success(.column(type: "VARCHAR", hasLargeIntegers: false))
        case 0x74, 0x66: return .success(.column(type: "BOOLEAN", hasLargeIntegers: false))
        case 0x7B, 0x5B: return .success(.column(type: "JSON", hasLargeIntegers: false))
        default:
            guard let number = NumberToken(member.start, member.end) else {
                return .failure(Misfit(text: misfit(member, "")))
            }
            if number.isInteger {
                guard let value = number.scaled(0, limit: NumberText.limit(width: 38)) else {
                    return .failure(Misfit(text: misfit(member, "a column, which has at most 38 digits")))
                }
                let type = Int64(exactly: value) == nil ? "DECIMAL(38,0)" : "BIGINT"
                return .success(.column(type: type, hasLargeIntegers: value.magnitude > 1 << 53))
            }
            guard number.double(after: member.end) != nil else {
                return .failure(Misfit(text: misfit(member, "a DOUBLE, it is too large")))
            }
            return .success(.column(type: "DOUBLE", hasLargeIntegers: false))
        }
    }

    /// Nil when the value fits as the column is.
    private mutating func fit(_ index: Int, _ member: Member) -> Result<Change?, Misfit> {
        let state = states[index]
        if state.kind == .bigint, !state.isDeclared, let number = NumberToken(member.start, member.end) {
            if !number.isInteger {
                if !state.hasLargeIntegers, number.double(after: member.end) != nil {
                    return .success(.widen(index, .double))
                }
            } else if let value = number.scaled(0, limit: NumberText.limit(width: 38)) {
                if Int64(exactly: value) == nil { return .success(.widen(index, .decimal)) }
                return .success(!state.hasLargeIntegers && value.magnitude > 1 << 53 ? .large(index) : nil)
            }
        } else {
            let isTaken = storeOther(states + index, member.start, member.end) == member.end
            states[index].memory.erase(rows.count)
            if isTaken { return .success(nil) }
            if state.kind == .boolean, member.start.pointee == 0x74 || member.start.pointee == 0x66 {
                return .success(nil)
            }
        }
        let type = columns[state.place].type
        return .failure(Misfit(text: misfit(member, "the column's type \(type)")))
    }

    // MARK: Changes

    private mutating func apply(_ changes: [(Member, Change)], _ members: [Member]) {
        forgetNames()
        for (member, change) in changes {
            switch change {
            case .name(let kind):
                let folded = Self.folded(member.name)
                if names[folded] == nil { addState(ColumnState(kind), folded: folded) }
            case .column(let type, let hasLargeIntegers):
                addColumn(
                    AppendTableSchemaVersion.Column(
                        name: String(decoding: member.name, as: UTF8.self),
                        type: type,
                        hasLargeIntegers: hasLargeIntegers
                    )
                )
            case .large(let index): setLarge(index)
            case .widen(let index, let kind): widen(index, kind)
            }
        }
        for member in members where keys.find(member.key, member.keyCount) == 0 {
            guard let index = names[Self.folded(member.name)] else { continue }
            keys.add(member.key, member.keyCount, column: index)
        }
    }

    /// Bounds what is kept of names: those without a column, and spellings.
    private mutating func forgetNames() {
        let isFull = stateCount - columns.count > Self.namelessMax
        guard isFull || keys.count > Self.spellingsMax else { return }
        keys.free()
        keys = KeyTable()
        guard isFull else { return }
        var kept = 0
        names.removeAll()
        for index in 0..<stateCount {
            let state = states[index]
            guard state.place >= 0 else {
                state.memory.free()
                continue
            }
            states[kept] = state
            names[Self.folded(Array(columns[state.place].name.utf8))] = kept
            kept += 1
        }
        stateCount = kept
    }

    private mutating func addColumn(_ column: AppendTableSchemaVersion.Column) {
        guard let state = ColumnState(column, place: columns.count) else { return }
        let folded = Self.folded(Array(column.name.utf8))
        if let index = names[folded] {
            states[index].memory.free()
            states[index] = state
        } else {
            addState(state, folded: folded)
        }
        columns.append(column)
        addedCount += 1
    }

    private mutating func setLarge(_ index: Int) {
        states[index].hasLargeIntegers = true
        columns[states[index].place].hasLargeIntegers = true
    }

    private mutating func widen(_ index: Int, _ kind: ColumnKind) {
        let place = states[index].place
        if kind == .double {
            states[index].memory.restride(8, rows: rows.count) { old, new in
                new.storeBytes(of: Double(old.load(as: Int64.self)), as: Double.self)
            }
            columns[place].type = "DOUBLE"
        } else {
            states[index].memory.restride(16, rows: rows.count) { old, new in
                new.storeBytes(of: Int128(old.load(as: Int64.self)), as: Int128.self)
            }
            (states[index].width, states[index].scale) = (38, 0)
            columns[place].type = "DECIMAL(38,0)"
            setLarge(index)
        }
        states[index].kind = kind
        hasWidened = true
    }

    // MARK: Reasons

    private func misfit(_ member: Member, _ type: String) -> String {
        let name = String(decoding: member.name, as: UTF8.self)
        return
            "the field \(quoted(member.name)) has \(kind(member.start)) \(excerpt(member.start, member.end)), which does not "
            + "fit \(type); declare it as JSON: martlet tables update \(settings.table) --column \(name)=JSON"
    }

    private func kind(_ p: Bytes) -> String {
        switch p.pointee {
        case 0x22: "the string"
        case 0x74, 0x66: "the boolean"
        case 0x7B: "the object"
        case 0x5B: "the array"
        default: "the number"
        }
    }

    /// At most 60 characters of a text, control characters escaped.
    private func excerpt(_ start: Bytes, _ end: Bytes) -> String {
        let count = end - start
        let text = String(decoding: UnsafeBufferPointer(start: start, count: min(count, 240)), as: UTF8.self)
        var shown = ""
        var left = 60
        for scalar in text.unicodeScalars {
            guard left > 0 else { return shown + "…" }
            left -= 1
            if scalar.value < 0x20 || (0x7F..<0xA0).contains(scalar.value) {
                let digits = String(scalar.value, radix: 16)
                shown += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            } else {
                shown.unicodeScalars.append(scalar)
            }
        }
        return count > 240 ? shown + "…" : shown
    }

    private func quoted(_ name: [UInt8]) -> String {
        var bytes = name
        bytes.append(0)
        return bytes.withUnsafeBufferPointer { buffer in
            guard let start = buffer.baseAddress else { return "\"\"" }
            return "\"" + excerpt(start, start + name.count) + "\""
        }
    }

    private func objectFault(_ start: Bytes, _ end: Bytes) -> String {
        let p = JSONText.skipSpace(start, end)
        if p == end { return "the value is empty; a json table takes one JSON object in each record" }
        var scan = text
        if p.pointee != 0x7B, let valueEnd = scan.valueEnd(p, end, outer: 0), JSONText.skipSpace(valueEnd, end) == end {
            return
                "the value is \(kind(p)) \(excerpt(p, end)), not an object; a json table takes one JSON object in each "
                + "record, a raw table takes anything"
        }
        return "the value is not a JSON object: \(faultText(start, end))"
    }

    /// What the last fault was.
    func faultText(_ start: Bytes, _ end: Bytes) -> String {
        let at = text.fault.at.map { max(0, min($0, end) - start) } ?? 0
        switch text.fault.kind {
        case .syntax where at < end - start: return "byte \(at) is not expected: \(excerpt(start + at, end))"
        case .syntax, .cutOff: return "it ends before its end, after \(end - start) bytes"
        case .encoding: return "byte \(at) is not UTF-8"
        case .surrogate: return "byte \(at) begins half of a surrogate pair, which is no character"
        case .depth: return "it nests deeper than \(JSONText.depthMax) levels at byte \(at)"
        }
    }
}
