// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import DuckDB
internal import MartletCore

/// Collects the values of one column of an operation, whose type is that of the values seen.
struct ColumnBuilder {
    let name: String
    private var buffer: ColumnBuffer?
    private var leadingNulls = 0

    init(name: String) {
        self.name = name
    }

    /// The finished column.
    var column: TableColumn { TableColumn(name: name, values: buffer) }

    /// Why a value is refused.
    struct Refusal: Error {
        let code: LakeError.Code
        let message: String
    }

    mutating func appendNull() {
        if buffer == nil { leadingNulls += 1 } else { buffer?.appendNull() }
    }

    /// Reads the value the cursor stands before.
    mutating func append(from cursor: inout JSONCursor) throws {
        switch try cursor.peek() {
        case .null:
            try cursor.readNull()
            appendNull()
        case .bool:
            let value = try cursor.readBool()
            try prepare(.boolean)
            buffer?.append(value)
        case .number: try appendNumber(from: &cursor)
        case .string:
            try prepare(.varchar)
            try buffer?.appendBytes { try cursor.readString(appendingTo: &$0) }
        case .array: try appendJSON(from: &cursor)
        case .object: try appendObject(from: &cursor)
        }
    }

    private mutating func appendNumber(from cursor: inout JSONCursor) throws {
        let number = try cursor.readNumber()
        if number.isInteger {
            guard let value = cursor.int64(number) else {
                throw Refusal(
                    code: .malformedTransaction,
                    message:
                        "the integer \(cursor.text(number.range)) needs more than 64 bits; write it as {\"$decimal\":\"…\"}"
                )
            }
            try append(value, as: .bigint)
        } else {
            let value = cursor.double(number)
            guard value.isFinite else {
                throw Refusal(
                    code: .malformedTransaction,
                    message: "the number \(cursor.text(number.range)) is too large for a double"
                )
            }
            try append(value)
        }
    }

    private mutating func append(_ value: Double) throws {
        try prepare(.double)
        guard buffer?.type == .double else { preconditionFailure("ColumnBuilder: a double went to another type") }
        buffer?.append(value)
    }

    /// Appends an integer, date or timestamp, converted when the column has become wider.
    private mutating func append(_ value: Int64, as type: ColumnType) throws {
        try prepare(type)
        if buffer?.type == type {
            buffer?.append(value)
        } else {
            var single = ColumnBuffer(type)
            single.append(value)
            try appendConverted(single)
        }
    }

    private mutating func appendConverted(_ single: ColumnBuffer) throws {
        do {
            try buffer?.append(row: 0, of: single)
        } catch {
            throw Refusal(code: .typeConflict, message: "\(error.value) cannot be kept exactly as \(error.type)")
        }
    }

    private mutating func appendJSON(from cursor: inout JSONCursor) throws {
        let raw = try cursor.skipValue()
        try prepare(.json)
        buffer?.append(bytes: cursor.bytes(raw))
    }

    /// Reads a tagged value, or any other object as JSON.
    private mutating func appendObject(from cursor: inout JSONCursor) throws {
        var probe = cursor
        try probe.beginObject()
        guard let tag = try probe.nextKey(), Self.tags.contains(tag), try probe.peek() == .string else {
            return try appendJSON(from: &cursor)
        }
        let text = try probe.readString()
        guard try probe.nextKey() == nil else { return try appendJSON(from: &cursor) }
        cursor = probe
        try append(tag: tag, text)
    }

    private static let tags: Set<String> = ["$float", "$bytes", "$timestamp", "$date", "$decimal"]

    private mutating func append(tag: String, _ text: String) throws {
        switch tag {
        case "$float":
            let values: [String: Double] = ["NaN": .nan, "Infinity": .infinity, "-Infinity": -.infinity]
            guard let value = values[text] else { throw malformed(tag, text, "NaN, Infinity or -Infinity") }
            try append(value)
        case "$bytes":
            guard let bytes = Base64.decode(text) else { throw malformed(tag, text, "base64 (RFC 4648 section 4)") }
            try prepare(.blob)
            buffer?.append(bytes: bytes)
        case "$timestamp":
            guard let micros = CalendarText.parseTimestamp(text) else {
                throw malformed(tag, text, "a time such as 2026-04-08T15:41:29.591955Z")
            }
            try append(micros, as: .timestamp)
        case "$date":
            guard let days = CalendarText.parseDate(text) else {
                throw malformed(tag, text, "a date such as 2026-04-08")
            }
            try append(Int64(days), as: .date)
        default:
            guard let (value, type) = DecimalText.parse(text) else {
                throw malformed(tag, text, "a decimal number of at most 38 digits")
            }
            try prepare(type)
            var single = ColumnBuffer(type)
            single.append(wide: value)
            try appendConverted(single)
        }
    }

    private func malformed(_ tag: String, _ text: String, _ wanted: String) -> Refusal {
        Refusal(code: .malformedTransaction, message: "{\"\(tag)\":…} wants \(wanted), found \"\(text.prefix(80))\"")
    }

    /// Makes the buffer able to take a value of a type.
    private mutating func prepare(_ type: ColumnType) throws {
        guard let current = buffer else {
            var fresh = ColumnBuffer(type)
            for _ in 0..<leadingNulls { fresh.appendNull() }
            buffer = fresh
            return
        }
        if current.type == type { return }
        guard let wider = TypeWidening.common(current.type, type) else {
            throw Refusal(
                code: .typeConflict,
                message: "a \(type) stands in a column whose values before are \(current.type)"
            )
        }
        if wider == current.type { return }
        do {
            buffer = try current.converted(to: wider)
        } catch {
            throw Refusal(
                code: .typeConflict,
                message:
                    "\(error.value) in row \(error.row) cannot be kept exactly as \(wider), which a later row needs"
            )
        }
    }
}
