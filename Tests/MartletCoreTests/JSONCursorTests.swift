// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore
import Testing

@Suite struct JSONCursorTests {
    static let accepted: [String] = [
        "null", "true", "false", "0", "-0", "12", "-1.5", "1e3", "1E+3", "1.25e-3", "\"\"", "\"a\"", "[]", "{}",
        " [ ] ",
        "[1,2]", "{\"a\":1}", "{\"a\":{\"b\":[null]}}", "\"\\u00e9\"", "\"\\ud83d\\ude00\"",
        "\"\\\\\\\"\\/\\b\\f\\n\\r\\t\"",
        "\"\u{7F}\"", "\"é😀\"", "[[[[]]]]", "{\"a\":1,\"a\":2}", "\t\r\n 1 \n", "\"12345678\"",
        "\"1234567\\n12345678\"",
    ]
    static let refused: [String] = [
        "", " ", "nul", "tru", "truex", "nulll", "01", "-", "+1", "1.", ".5", "1e", "1e+", "--1", "0x1", "\"", "\"\\\"",
        "\"\\x\"", "\"\\u12\"", "\"\\u12G4\"", "\"\\ud800\"", "\"\\udc00\"", "\"\\ud800\\u0041\"", "\"\n\"",
        "\"\u{1}\"",
        "[", "]", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "{", "}", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,",
        "{\"a\":1,}",
        "{a:1}", "{1:2}", "{\"a\" 1}", "{,}", "[}", "{]", "1 2", "[] []", "NaN", "Infinity", "-Infinity", "'a'",
        "/**/1",
    ]

    @Test(arguments: accepted) func acceptsWhatTheGrammarAllows(text: String) throws {
        #expect(JSONCursor.isValid(Array(text.utf8)))
        #expect((try? JSONSerialization.jsonObject(with: Data(text.utf8), options: .fragmentsAllowed)) != nil)
        _ = try JSONValue(parsing: text)
    }

    @Test(arguments: refused) func refusesWhatTheGrammarForbids(text: String) {
        #expect(!JSONCursor.isValid(Array(text.utf8)))
        if !Self.hasTrailingComma(text) {
            #expect((try? JSONSerialization.jsonObject(with: Data(text.utf8), options: .fragmentsAllowed)) == nil)
        }
        #expect(throws: JSONError.self) { try JSONValue(parsing: text) }
    }

    @Test(
        arguments: [
            [0xFF], [0x80], [0xC0, 0xAF], [0xC1, 0x81], [0xE0, 0x80, 0xAF], [0xED, 0xA0, 0x80],
            [0xF0, 0x80, 0x80, 0xAF],
            [0xF4, 0x90, 0x80, 0x80], [0xF5, 0x80, 0x80, 0x80], [0xE2, 0x82], [0xF0, 0x9F, 0x98], [0xC3, 0x28],
            [0xE2, 0x28, 0xA1], [0xE2, 0x82, 0x28], [0xF0, 0x9F, 0x98, 0x28],
        ] as [[UInt8]]
    )
    func refusesBytesThatAreNotUTF8(sequence: [UInt8]) {
        #expect(!JSONCursor.isValid([0x22] + sequence + [0x22]))
        #expect(!JSONCursor.isValid(Array("\"padding padding ".utf8) + sequence + Array("padding padding\"".utf8)))
    }

    @Test(arguments: [
        "0", "-1", "9223372036854775807", "9223372036854775808", "123456789012345678901234567890", "1.5", "1.50",
        "0.1234567890123456789012345678901234567890", "1e3", "1E+3", "1e400", "-1e-400", "5e-324", "100000.0", "-0.0",
    ])
    func numbersAreWrittenAsTheyWere(text: String) throws {
        for text in [text, "[\(text)]", #"{"a":{"b":[\#(text),\#(text)]}}"#] {
            #expect(try JSONValue(parsing: text).text == text)
        }
        #expect(try JSONValue(parsing: text).kind == .number)
    }

    @Test func numbersOfManyDigitsPassFoundationsEncoder() throws {
        let text = #"[123456789012345678901234567890,1.5]"#
        #expect(String(decoding: try JSONEncoder().encode(JSONValue(parsing: text)), as: UTF8.self) == text)
        let long = String(repeating: "7", count: 60)
        let encoded = try JSONEncoder().encode(JSONValue(parsing: "[\(long)]"))
        #expect(String(decoding: encoded, as: UTF8.self) == "[\"\(long)\"]")
    }

    @Test func repeatedKeysAreKeptOnRequest() throws {
        let text = #"{"a":1,"b":{"c":2,"c":3},"a":4}"#
        #expect(try JSONValue(parsing: text).text == #"{"a":4,"b":{"c":3}}"#)
        #expect(try JSONValue(parsing: Array(text.utf8), keepingRepeatedKeys: true).text == text)
    }

    @Test func nestingEndsAtTheLimit() {
        let deepest = String(repeating: "[", count: 128) + String(repeating: "]", count: 128)
        #expect(JSONCursor.isValid(Array(deepest.utf8)))
        #expect(throws: Never.self) { try JSONValue(parsing: deepest) }
        for text in ["[" + deepest + "]", "{\"a\":" + deepest + "}", String(repeating: "[", count: 1_000_000)] {
            #expect(!JSONCursor.isValid(Array(text.utf8)))
            #expect(throws: JSONError(.tooDeep, offset: text.hasPrefix("{") ? 132 : 128)) {
                try JSONValue(parsing: text)
            }
        }
    }

    @Test func pullsValuesInOrder() throws {
        let text = #" {"op":"upsert", "rows":[["a\u00e9",1,2.5,null,true],[]], "raw": {"x":[1, 2]} , "last":"é"} "#
        let bytes = Array(text.utf8)
        try JSONCursor.withBytes(bytes) { cursor in
            try cursor.beginObject()
            #expect(try cursor.nextKey() == "op")
            #expect(try cursor.readString() == "upsert")
            #expect(try cursor.nextKey() == "rows")
            try cursor.beginArray()
            #expect(try cursor.nextElement())
            try cursor.beginArray()
            #expect(try cursor.nextElement())
            #expect(try cursor.readString() == "aé")
            #expect(try cursor.nextElement())
            #expect(try cursor.readInt64() == 1)
            #expect(try cursor.nextElement())
            #expect(try cursor.readDouble() == 2.5)
            #expect(try cursor.nextElement())
            #expect(try cursor.readNullIfPresent())
            #expect(try cursor.nextElement())
            #expect(try cursor.readNullIfPresent() == false)
            #expect(try cursor.readBool())
            #expect(try !cursor.nextElement())
            #expect(try cursor.nextElement())
            try cursor.beginArray()
            #expect(try !cursor.nextElement())
            #expect(try !cursor.nextElement())
            #expect(try cursor.nextKey() == "raw")
            let raw = try cursor.skipValue()
            #expect(cursor.text(raw) == #"{"x":[1, 2]}"#)
            #expect(try cursor.nextKey() == "last")
            var buffer: [UInt8] = []
            try cursor.readString(appendingTo: &buffer)
            #expect(buffer == Array("é".utf8))
            #expect(try cursor.nextKey() == nil)
        }
    }

    @Test func errorsNameTheByte() {
        #expect(throws: JSONError(.unexpectedByte(0x78), offset: 4)) { try JSONValue(parsing: "[1, x]") }
        #expect(throws: JSONError(.trailingBytes, offset: 3)) { try JSONValue(parsing: "[] x") }
        #expect(throws: JSONError(.expected(.array, found: .object), offset: 1)) {
            try JSONCursor.withBytes(Array(" {}".utf8)) { try $0.beginArray() }
        }
        #expect(
            JSONError(.controlCharacter(10), offset: 7).description
                == "a string contains an unescaped byte 0x0A at byte 7"
        )
    }

    @Test func integersAreExactToSixtyFourBits() throws {
        func read(_ text: String) throws -> Int64 { try JSONCursor.withBytes(Array(text.utf8)) { try $0.readInt64() } }
        for value: Int64 in [0, 1, -1, .max, .min, 9_007_199_254_740_993, 999_999_999_999_999_999] {
            #expect(try read(String(value)) == value)
        }
        #expect(throws: JSONError(.numberOutOfRange, offset: 0)) { try read("9223372036854775808") }
        #expect(throws: JSONError(.numberOutOfRange, offset: 0)) { try read("-9223372036854775809") }
        #expect(throws: JSONError(.numberOutOfRange, offset: 0)) { try read("123456789012345678901234567890") }
        #expect(throws: JSONError(.notAnInteger, offset: 0)) { try read("1.0") }
        #expect(throws: JSONError(.notAnInteger, offset: 0)) { try read("1e2") }
        #expect(try JSONValue(parsing: "9223372036854775808") == .number("9223372036854775808"))
        #expect(try JSONValue(parsing: "9223372036854775808").doubleValue == 9_223_372_036_854_775_808)
    }

    @Test func doublesAreTheNearestOnes() throws {
        func read(_ text: String) throws -> Double {
            try JSONCursor.withBytes(Array(text.utf8)) { try $0.readDouble() }
        }
        for text in [
            "0.1", "0.30000000000000004", "1e22", "1e23", "123456789012345678", "5e-324", "1.7976931348623157e308",
            "2.2250738585072011e-308", "9007199254740993", "-0.0", "3.14159265358979323846264338327950288", "1e-400",
        ] {
            let value = try read(text)
            #expect(value.bitPattern == Double(text)?.bitPattern, "\(text)")
        }
        #expect(throws: JSONError(.numberOutOfRange, offset: 0)) { try read("1e999") }
    }

    @Test func valuesKeepKeyOrderAndNumbers() throws {
        let text = #"{"z":1,"a":[1.0,-0.0,1e+30,9007199254740993,null,true],"é\n\u0001\"":"x/y","z":2}"#
        let value = try JSONValue(parsing: text)
        #expect(value.objectValue?.keys == ["z", "a", "é\n\u{1}\""])
        #expect(value["z"] == 2)
        #expect(value.text == #"{"z":2,"a":[1.0,-0.0,1e+30,9007199254740993,null,true],"é\n\u0001\"":"x/y"}"#)
        #expect(try JSONValue(parsing: value.bytes) == value)
    }

    @Test func codableGoesThroughFoundation() throws {
        let value: JSONValue = ["a": [1, 2.5, nil, true, "x"], "b": ["c": -7]]
        let data = try JSONEncoder().encode(value)
        let back = try JSONDecoder().decode(JSONValue.self, from: data)
        #expect(back["a"] == value["a"])
        #expect(back["b"] == value["b"])
    }

    @Test func randomValuesSurviveTheRoundTrip() throws {
        var random = SeededGenerator.fresh(name: "JSON round trip")
        for _ in 0..<2_000 {
            let value = randomValue(depth: 0, using: &random)
            let bytes = value.bytes
            #expect(JSONCursor.isValid(bytes))
            #expect(try JSONValue(parsing: bytes) == value)
            let wrapped = try JSONSerialization.jsonObject(with: Data(bytes), options: .fragmentsAllowed)
            #expect(!(wrapped is Data))
        }
    }

    @Test func damagedTextsAreJudgedLikeFoundationDoes() {
        var random = SeededGenerator.fresh(name: "JSON damage")
        let alphabet = Array("{}[]:,\"\\0123456789.eE+-truefalsn \u{1}é".utf8)
        for _ in 0..<20_000 {
            var bytes = randomValue(depth: 2, using: &random).bytes
            for _ in 0..<Int.random(in: 1...3, using: &random) where !bytes.isEmpty {
                let place = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0: bytes.remove(at: place)
                case 1: bytes[place] = alphabet[Int.random(in: 0..<alphabet.count, using: &random)]
                default: bytes.insert(alphabet[Int.random(in: 0..<alphabet.count, using: &random)], at: place)
                }
            }
            let isValid = JSONCursor.isValid(bytes)
            let parsed = try? JSONValue(parsing: bytes)
            // Foundation reads a byte order mark and UTF-16, and refuses numbers no double holds: only judge what both define.
            guard String(validating: bytes, as: UTF8.self) != nil, !bytes.contains(0) else {
                #expect(!isValid)
                continue
            }
            #expect(isValid == (parsed != nil))
            if let parsed, Self.hasNumberBeyondDoubles(parsed) { continue }
            let foundation = try? JSONSerialization.jsonObject(with: Data(bytes), options: .fragmentsAllowed)
            if foundation != nil, Self.hasTrailingComma(String(decoding: bytes, as: UTF8.self)) { continue }
            #expect(isValid == (foundation != nil), "\(String(decoding: bytes, as: UTF8.self).debugDescription)")
        }
    }

    private static func hasNumberBeyondDoubles(_ value: JSONValue) -> Bool {
        switch value {
        case .number: value.doubleValue == nil
        case .array(let elements): elements.contains { hasNumberBeyondDoubles($0) }
        case .object(let object): object.members.contains { hasNumberBeyondDoubles($0.value) }
        default: false
        }
    }

    /// Foundation on Linux takes a comma before a closing bracket, which RFC 8259 does not.
    private static func hasTrailingComma(_ text: String) -> Bool {
        text.contains(/,\s*[\]}]/)
    }

    private func randomValue(depth: Int, using random: inout SeededGenerator) -> JSONValue {
        switch Int.random(in: 0..<(depth > 4 ? 5 : 7), using: &random) {
        case 0: return .null
        case 1: return .bool(Bool.random(using: &random))
        case 2: return .int(Int64.random(in: .min ... .max, using: &random) >> Int64.random(in: 0..<64, using: &random))
        case 3: return .double(Double.random(in: -1e9...1e9, using: &random))
        case 4:
            let scalars: [Unicode.Scalar] = ["a", "\"", "\\", "\n", "\u{0}", "é", "😀", "\u{7F}", "\u{2028}", "z"]
            let length = Int.random(in: 0..<30, using: &random)
            var text = ""
            for _ in 0..<length {
                text.unicodeScalars.append(scalars[Int.random(in: 0..<scalars.count, using: &random)])
            }
            return .string(text)
        case 5:
            return .array(
                (0..<Int.random(in: 0..<6, using: &random)).map { _ in randomValue(depth: depth + 1, using: &random) }
            )
        default:
            return .object(
                JSONObject(
                    members: (0..<Int.random(in: 0..<20, using: &random)).map { index in
                        JSONObject.Member(key: "k\(index)", value: randomValue(depth: depth + 1, using: &random))
                    }
                )
            )
        }
    }
}

/// A repeatable random source (SplitMix64) whose seed is printed and can be given in `MARTLET_TEST_SEED`.
private struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    static func fresh(name: String) -> SeededGenerator {
        let given = ProcessInfo.processInfo.environment["MARTLET_TEST_SEED"].flatMap { UInt64($0) }
        let seed = given ?? UInt64.random(in: .min ... .max)
        print("\(name): MARTLET_TEST_SEED=\(seed)")
        return SeededGenerator(state: seed)
    }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
