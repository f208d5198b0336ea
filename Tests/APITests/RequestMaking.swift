// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import GRPCAPI

/// Requests to publish as clients write them, field by field in any order, and what damage makes of them.
struct RequestMaking: RandomNumberGenerator {
    private var state: UInt64
    private let shape: PublishDeserializer.Shape

    /// Takes the seed from `MARTLET_TEST_SEED`, or a random one, and prints it.
    init(test: String, _ shape: PublishDeserializer.Shape) {
        let given = ProcessInfo.processInfo.environment["MARTLET_TEST_SEED"].flatMap { UInt64($0) }
        state = given ?? UInt64.random(in: 0...UInt64.max)
        self.shape = shape
        print("\(test) (\(shape)): MARTLET_TEST_SEED=\(state)")
    }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var word = state
        word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
        return word ^ (word >> 31)
    }

    private mutating func number(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &self) }

    private mutating func bytes(_ most: Int) -> [UInt8] {
        (0..<number(most + 1)).map { _ in UInt8.random(in: 0...255, using: &self) }
    }

    private mutating func one<Element>(of choice: [Element]) -> Element { choice[number(choice.count)] }

    // MARK: Fields

    private static func varint(_ value: UInt64) -> [UInt8] {
        var rest = value
        var bytes: [UInt8] = []
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        return bytes + [UInt8(rest)]
    }

    private static func field(_ number: UInt64, _ value: UInt64) -> [UInt8] { varint(number << 3) + varint(value) }

    private static func field(_ number: UInt64, _ value: [UInt8]) -> [UInt8] {
        varint(number << 3 | 2) + varint(UInt64(value.count)) + value
    }

    private static func field(_ number: UInt64, text: String) -> [UInt8] { field(number, Array(text.utf8)) }

    /// A field that no schema of today has, or one of another wire type than it has there.
    private mutating func unknown() -> [UInt8] {
        let field = UInt64(one(of: [15, 16, 20, 1000, 2_000_000, (1 << 29) - 1]))
        switch number(5) {
        case 0: return Self.field(field, UInt64(next()))
        case 1: return Self.varint(field << 3 | 1) + (0..<8).map { _ in UInt8.random(in: 0...255, using: &self) }
        case 2: return Self.varint(field << 3 | 5) + (0..<4).map { _ in UInt8.random(in: 0...255, using: &self) }
        case 3: return Self.field(field, bytes(20))
        default: return Self.field(UInt64(1 + number(2)), next() >> UInt64(number(64)))
        }
    }

    private mutating func joined(_ fields: [[UInt8]]) -> [UInt8] {
        var fields = fields
        if number(4) == 0 { fields.append(unknown()) }
        return fields.shuffled(using: &self).flatMap { $0 }
    }

    // MARK: Events

    private mutating func text() -> String {
        one(of: ["a", "an id", "é😀", "x-1", String(repeating: "long", count: 1 + number(60))])
    }

    private mutating func attributes() -> [[UInt8]] {
        var fields = [
            Self.field(1, text: text()),
            Self.field(2, text: one(of: ["urn:a", "/relative", "https://example.com/é?x=1"])),
            Self.field(3, text: one(of: ["example.com:Thing.Made", "t"])),
        ]
        if number(3) == 0 { fields.append(Self.field(4, text: one(of: [text(), ""]))) }
        if number(3) == 0 { fields.append(Self.field(5, text: one(of: ["2026-04-08T15:41:29.5Z", ""]))) }
        if number(3) == 0 {
            fields.append(Self.field(6, text: one(of: ["application/json", "text/plain; charset=é", ""])))
        }
        if number(3) == 0 { fields.append(Self.field(7, text: one(of: ["https://example.com/schema", ""]))) }
        let names = ["partitionkey", "traceparent", "x", "y2", "sequence"].shuffled(using: &self).prefix(number(4))
        for name in names {
            var pair = [Self.field(1, text: name)]
            if number(5) > 0 { pair.append(Self.field(2, text: one(of: [text(), ""]))) }
            fields.append(Self.field(8, pair.shuffled(using: &self).flatMap { $0 }))
        }
        return fields
    }

    private mutating func event() -> [UInt8] {
        var fields = number(4) > 0 ? attributes() : []
        for _ in 0..<one(of: [0, 0, 1, 3]) {
            let name = Self.field(1, text: one(of: ["h", "é", "a longer name of a header"]))
            let value = number(4) > 0 ? Self.field(2, bytes(40)) : []
            fields.append(Self.field(9, joined([name, value].filter { !$0.isEmpty })))
        }
        if number(2) == 0 { fields.append(Self.field(10, bytes(12))) }
        for _ in 0..<one(of: [0, 1, 1, 1, 2]) { fields.append(Self.field(11, bytes(300))) }
        if number(4) == 0 { fields.append(Self.field(12, text: one(of: ["other", "third", ""]))) }
        if number(4) == 0 { fields.append(Self.field(13, UInt64(number(1000)))) }
        return joined(fields)
    }

    // MARK: Requests

    /// A request as a client sends it, with 1 to 4 events.
    mutating func request() -> [UInt8] {
        let isStream = shape == .stream
        var fields: [[UInt8]] = []
        if number(5) > 0 { fields.append(Self.field(isStream ? 2 : 1, text: one(of: ["topic", "another", ""]))) }
        if isStream, number(5) > 0 { fields.append(Self.field(1, next() >> UInt64(number(64)))) }
        for _ in 0..<(shape == .one ? 1 : 1 + number(4)) { fields.append(Self.field(isStream ? 3 : 2, event())) }
        return joined(fields)
    }

    /// The bytes with some of them changed, cut off, doubled or put in.
    mutating func mutated(_ bytes: [UInt8]) -> [UInt8] {
        var bytes = bytes
        for _ in 0..<(1 + number(3)) where !bytes.isEmpty {
            let place = number(bytes.count)
            switch number(8) {
            case 0: bytes[place] ^= 1 << UInt8(number(8))
            case 1: bytes[place] = one(of: [0, 1, 8, 10, 0x42, 0x4A, 0x7F, 0x80, 0xFF])
            case 2: bytes.removeLast(number(bytes.count))
            case 3: bytes.remove(at: place)
            case 4: bytes.insert(UInt8(number(256)), at: place)
            case 5:
                let slice = bytes[place..<min(bytes.count, place + number(40))]
                bytes.insert(contentsOf: slice, at: number(bytes.count + 1))
            case 6: bytes.insert(contentsOf: unknown(), at: place)
            default:
                let hurting: [[UInt8]] = [
                    [0xFF, 0xFF, 0xFF, 0xFF, 0x0F], [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02],
                    [0x0B, 0x0C], [0xC3, 0x28], [0xED, 0xA0, 0x80], [0x80, 0x00], [0x42, 0x00],
                    [0x42, 0x02, 0x08, 0x0A],
                    [0x68, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
                ]
                let chosen = one(of: hurting)
                bytes.replaceSubrange(place..<min(bytes.count, place + number(2) * chosen.count), with: chosen)
            }
        }
        return bytes
    }

    /// Random bytes; most of them begin as fields do.
    mutating func noise() -> [UInt8] {
        let tags: [UInt8] = [0x08, 0x0A, 0x12, 0x1A, 0x22, 0x42, 0x4A, 0x52, 0x5A, 0x62, 0x68, 0x0D, 0x09, 0x0B]
        return (0..<number(60)).map { _ in
            number(2) == 0 ? one(of: tags) : number(2) == 0 ? UInt8(number(6)) : UInt8(number(256))
        }
    }
}
