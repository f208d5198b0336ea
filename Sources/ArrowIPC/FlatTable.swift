// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// A FlatBuffers table before it is laid out: its fields by number, nil where the schema's default holds.
struct FlatTable {
    /// One field's value.
    indirect enum Field {
        case byte(UInt8)
        case short(Int16)
        case int(Int32)
        case long(Int64)
        case string(String)
        case table(FlatTable)
        case tables([FlatTable])
        /// A vector of structs of two 64-bit integers.
        case pairs([(Int64, Int64)])

        /// Bytes it takes inside its table; what is of variable size stands elsewhere and takes an offset.
        var inlineSize: Int {
            switch self {
            case .byte: 1
            case .short: 2
            case .int, .string, .table, .tables, .pairs: 4
            case .long: 8
            }
        }
    }

    var fields: [Field?]

    /// The table as the root of a buffer (FlatBuffers, "Internals"), whose length is a multiple of eight.
    func encoded() -> [UInt8] {
        var layout = FlatLayout()
        layout.appendRoot(self)
        return layout.bytes
    }
}

/// Lays tables out from front to back: a parent stands before what it points to, so every offset is positive.
private struct FlatLayout {
    private(set) var bytes: [UInt8] = []

    mutating func appendRoot(_ table: FlatTable) {
        append(UInt32(0))
        patch(0, to: append(table))
        align(to: 8)
    }

    /// Appends a table with everything below it and returns its position.
    private mutating func append(_ table: FlatTable) -> Int {
        var places = [Int](repeating: 0, count: table.fields.count)
        var size = 4
        // The largest come first, so that little is lost between them.
        for wanted in [8, 4, 2, 1] {
            for (index, field) in table.fields.enumerated() where field?.inlineSize == wanted {
                size = (size + wanted - 1) / wanted * wanted
                places[index] = size
                size += wanted
            }
        }
        align(to: 2)
        let vtable = bytes.count
        append(UInt16(4 + 2 * places.count))
        append(UInt16(size))
        for place in places { append(UInt16(place)) }
        align(to: 8)
        let start = bytes.count
        append(Int32(start - vtable))
        bytes.append(contentsOf: repeatElement(0, count: size - 4))
        for (index, field) in table.fields.enumerated() {
            if let field { store(field, at: start + places[index]) }
        }
        return start
    }

    private mutating func store(_ field: FlatTable.Field, at place: Int) {
        switch field {
        case .byte(let value): bytes[place] = value
        case .short(let value): overwrite(place, value)
        case .int(let value): overwrite(place, value)
        case .long(let value): overwrite(place, value)
        case .string(let text):
            align(to: 4)
            patch(place, to: bytes.count)
            append(UInt32(text.utf8.count))
            bytes.append(contentsOf: text.utf8)
            bytes.append(0)
        case .table(let table): patch(place, to: append(table))
        case .tables(let tables):
            align(to: 4)
            patch(place, to: bytes.count)
            append(UInt32(tables.count))
            let first = bytes.count
            for _ in tables { append(UInt32(0)) }
            for (index, table) in tables.enumerated() { patch(first + 4 * index, to: append(table)) }
        case .pairs(let pairs):
            while bytes.count % 8 != 4 { bytes.append(0) }
            patch(place, to: bytes.count)
            append(UInt32(pairs.count))
            for pair in pairs {
                append(pair.0)
                append(pair.1)
            }
        }
    }

    /// Makes the offset at `place` point to `target`.
    private mutating func patch(_ place: Int, to target: Int) {
        overwrite(place, UInt32(target - place))
    }

    private mutating func align(to size: Int) {
        while bytes.count % size != 0 { bytes.append(0) }
    }

    private mutating func append(_ value: some FixedWidthInteger) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    private mutating func overwrite(_ place: Int, _ value: some FixedWidthInteger) {
        withUnsafeBytes(of: value.littleEndian) { source in
            for (index, byte) in source.enumerated() { bytes[place + index] = byte }
        }
    }
}
