// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Values of a column in the layout of its ``ArrowField``, without the field.
package struct ArrowArray: Sendable {
    /// How many values there are.
    package var count: Int
    /// How many of them are null.
    package var nullCount: Int
    /// The buffers that Arrow's layout of the type asks for, in its order; an empty validity buffer means that nothing is null.
    package var buffers: [[UInt8]]
    /// Values of the field's children.
    package var children: [ArrowArray]

    /// Makes an array; the buffers are taken as they are.
    package init(count: Int, nullCount: Int, buffers: [[UInt8]], children: [ArrowArray] = []) {
        self.count = count
        self.nullCount = nullCount
        self.buffers = buffers
        self.children = children
    }
}

/// Writes the streaming format of Arrow IPC (version 5, little endian, no compression): a schema, batches, an end.
package struct ArrowStream: Sendable {
    /// Media type of the stream.
    package static let mediaType = "application/vnd.apache.arrow.stream"

    /// What was written.
    package private(set) var bytes: [UInt8] = []

    /// Begins a stream with its schema.
    package init(schema: [ArrowField]) {
        let header = FlatTable(fields: [.short(0), .tables(schema.map(\.flat))])
        append(kind: 1, header: header, bodyCount: 0)
    }

    /// Appends the rows of one batch: an array of `rowCount` values for each field of the schema.
    package mutating func append(_ columns: [ArrowArray], rowCount: Int) {
        var nodes: [(Int64, Int64)] = []
        var buffers: [(Int64, Int64)] = []
        var body: [[UInt8]] = []
        var place = 0
        func add(_ array: ArrowArray) {
            nodes.append((Int64(array.count), Int64(array.nullCount)))
            for buffer in array.buffers {
                buffers.append((Int64(place), Int64(buffer.count)))
                body.append(buffer)
                place += Self.padded(buffer.count)
            }
            for child in array.children { add(child) }
        }
        for column in columns { add(column) }
        let header = FlatTable(fields: [.long(Int64(rowCount)), .pairs(nodes), .pairs(buffers)])
        append(kind: 3, header: header, bodyCount: place)
        for buffer in body {
            bytes.append(contentsOf: buffer)
            bytes.append(contentsOf: repeatElement(0, count: Self.padded(buffer.count) - buffer.count))
        }
    }

    /// Marks the end; nothing may follow.
    package mutating func finish() {
        append(UInt32.max)
        append(UInt32(0))
    }

    /// One message without its body: continuation mark, length, `Message` of Message.fbs.
    private mutating func append(kind: UInt8, header: FlatTable, bodyCount: Int) {
        let message = FlatTable(fields: [.short(4), .byte(kind), .table(header), .long(Int64(bodyCount))]).encoded()
        append(UInt32.max)
        append(UInt32(message.count))
        bytes.append(contentsOf: message)
    }

    private mutating func append(_ value: UInt32) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    private static func padded(_ count: Int) -> Int { (count + 7) & ~7 }
}
