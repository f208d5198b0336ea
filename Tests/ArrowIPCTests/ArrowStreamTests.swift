// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArrowIPC
import Testing

@Suite struct ArrowStreamTests {
    private func integer(_ bytes: [UInt8], at place: Int, count: Int = 4) -> Int {
        (0..<count).reduce(0) { $0 | Int(bytes[place + $1]) << (8 * $1) }
    }

    /// Bytes of each message's metadata, and where its body begins.
    private func messages(_ bytes: [UInt8]) throws -> [(metadata: [UInt8], body: Int)] {
        var found: [(metadata: [UInt8], body: Int)] = []
        var place = 0
        while true {
            try #require(integer(bytes, at: place) == 0xFFFF_FFFF)
            let count = integer(bytes, at: place + 4)
            if count == 0 {
                #expect(place + 8 == bytes.count)
                return found
            }
            #expect(count % 8 == 0, "metadata ends at a multiple of eight")
            let metadata = Array(bytes[place + 8..<place + 8 + count])
            found.append((metadata, place + 8 + count))
            place += 8 + count + (try bodyLength(metadata))
        }
    }

    /// Position of a table's field in its buffer, by its number; nil where it has its default.
    private func field(_ number: Int, of table: Int, in bytes: [UInt8]) -> Int? {
        let vtable = table - integer(bytes, at: table)
        guard 4 + 2 * number < integer(bytes, at: vtable, count: 2) else { return nil }
        let place = integer(bytes, at: vtable + 4 + 2 * number, count: 2)
        return place == 0 ? nil : table + place
    }

    private func follow(_ place: Int, in bytes: [UInt8]) -> Int { place + integer(bytes, at: place) }

    private func bodyLength(_ metadata: [UInt8]) throws -> Int {
        let message = follow(0, in: metadata)
        return integer(metadata, at: try #require(field(3, of: message, in: metadata)), count: 8)
    }

    @Test func aStreamIsSchemaBatchesAndEnd() throws {
        var stream = ArrowStream(schema: [ArrowField("a", .integer(bits: 32, isSigned: true))])
        stream.append(
            [ArrowArray(count: 3, nullCount: 1, buffers: [[0b101], [1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0]])],
            rowCount: 3
        )
        stream.finish()
        let found = try messages(stream.bytes)
        try #require(found.count == 2)
        let kinds = try found.map { message in
            let root = follow(0, in: message.metadata)
            #expect(
                integer(message.metadata, at: try #require(field(0, of: root, in: message.metadata)), count: 2) == 4
            )
            return Int(message.metadata[try #require(field(1, of: root, in: message.metadata))])
        }
        #expect(kinds == [1, 3])
        // Each buffer begins at a multiple of eight.
        #expect(found[1].body % 8 == 0)
        #expect(stream.bytes[found[1].body] == 0b101)
        #expect(Array(stream.bytes[found[1].body + 8..<found[1].body + 20]) == [1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0])
        #expect(try bodyLength(found[1].metadata) == 24)
    }

    @Test func aBatchSaysWhereItsBuffersAre() throws {
        var stream = ArrowStream(schema: [ArrowField("s", .list, children: [ArrowField("item", .utf8)])])
        let child = ArrowArray(count: 1, nullCount: 0, buffers: [[], [0, 0, 0, 0, 2, 0, 0, 0], [0x68, 0x69]])
        stream.append(
            [ArrowArray(count: 1, nullCount: 0, buffers: [[], [0, 0, 0, 0, 1, 0, 0, 0]], children: [child])],
            rowCount: 1
        )
        stream.finish()
        let metadata = try messages(stream.bytes)[1].metadata
        let batch = follow(try #require(field(2, of: follow(0, in: metadata), in: metadata)), in: metadata)
        let nodes = follow(try #require(field(1, of: batch, in: metadata)), in: metadata)
        #expect(integer(metadata, at: nodes) == 2)
        #expect((nodes + 4) % 8 == 0)
        let buffers = follow(try #require(field(2, of: batch, in: metadata)), in: metadata)
        #expect(integer(metadata, at: buffers) == 5)
        let places = (0..<5).map { index in
            (
                integer(metadata, at: buffers + 4 + 16 * index, count: 8),
                integer(metadata, at: buffers + 12 + 16 * index, count: 8)
            )
        }
        #expect(places.map(\.0) == [0, 0, 8, 8, 16])
        #expect(places.map(\.1) == [0, 8, 0, 8, 2])
    }

    @Test func namesStandInTheSchema() throws {
        let stream = ArrowStream(schema: [
            ArrowField("größe", .timestamp(unit: .microsecond, zone: "UTC")),
            ArrowField("id", .fixedSizeBinary(width: 16), isNullable: false, extensionName: "arrow.uuid"),
        ])
        let text = String(decoding: stream.bytes, as: UTF8.self)
        for word in ["größe", "UTC", "arrow.uuid", "ARROW:extension:name"] { #expect(text.contains(word)) }
    }
}
