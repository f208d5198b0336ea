// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import DuckDB
import KafkaCodec
import MartletCore
import Tables
import Testing

/// SplitMix64, so that a seed gives the same records everywhere.
private struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

@Suite(.timeLimit(.minutes(3))) struct RecordsPropertyTests {
    private static let scalars = [
        "null", "true", "false", "0", "-0", "7", "-12", "9007199254740993", "-9223372036854775808",
        "9223372036854775808",
        "123456789012345678901234567890", "99999999999999999999999999999999999999999", "0.5", "-12.25", "1e3", "1E-7",
        "1e999",
        "123456789.123456789123", "2.2250738585072014e-308", "0.1234567890123456789", "[]", "{}", "\"\"", "\"a\"",
        "\"twelve bytes\"", "\"thirteen bytes\"", "\"é😀\"", "\"\\ud83d\\ude00\"", "\"\\ud800\"", "\"\\u0000\"",
        "\"a\\\"b\\\\c\\n\"", "\"2026-01-02T03:04:05Z\"", "\"12.50\"", "\"日本語日本語\"",
    ]
    private static let names = [
        "id", "ID", "user", "price", "a long name of a field", "é", "k\\u0065y", "key", "x", "", "_id",
    ]

    private static func value(_ depth: Int, _ random: inout SeededGenerator) -> String {
        let space = ["", "", "", " ", "\n\t"].randomElement(using: &random) ?? ""
        switch Int.random(in: 0..<10, using: &random) {
        case 0 where depth > 0:
            let elements = (0..<Int.random(in: 0..<4, using: &random)).map { _ in value(depth - 1, &random) }
            return space + "[" + elements.joined(separator: ",") + space + "]"
        case 1 where depth > 0: return object(depth - 1, &random)
        case 2: return space + String(Int64.random(in: .min ... .max, using: &random))
        case 3: return "\(Double(bitPattern: random.next() & 0x7FEF_FFFF_FFFF_FFFF))" + space
        default: return (scalars.randomElement(using: &random) ?? "") + space
        }
    }

    private static func object(_ depth: Int, _ random: inout SeededGenerator) -> String {
        let members = (0..<Int.random(in: 0..<5, using: &random)).map { _ in
            "\"" + (names.randomElement(using: &random) ?? "") + "\":" + value(depth, &random)
        }
        return "{" + members.joined(separator: ", ") + "}"
    }

    private static func record(_ random: inout SeededGenerator) -> [UInt8]? {
        var bytes = Array(object(4, &random).utf8)
        switch Int.random(in: 0..<12, using: &random) {
        case 0: bytes.removeLast(Int.random(in: 0...bytes.count, using: &random))
        case 1 where !bytes.isEmpty:
            bytes[Int.random(in: 0..<bytes.count, using: &random)] ^= UInt8(1 << Int.random(in: 0..<8, using: &random))
        case 2:
            bytes = (0..<Int.random(in: 0..<40, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
        case 3 where Bool.random(using: &random): return nil
        default: break
        }
        return bytes
    }

    @Test(arguments: [1, 2, 3, 4, 5, 6] as [UInt64]) func everyRecordIsARowOrAReject(_ seed: UInt64) throws {
        var random = SeededGenerator(state: seed)
        let values = (0..<5_000).map { _ in Self.record(&random) }
        let columns =
            seed % 2 == 0
            ? []
            : [
                TablesFixture.Column(name: "price", type: "DECIMAL(12,3)", isDeclared: true),
                TablesFixture.Column(
                    name: "x",
                    type: ["VARCHAR", "TIMESTAMP", "JSON"][Int(seed / 2)],
                    isDeclared: true
                ),
            ]
        let bytes = TablesFixture.batch(values, base: 100)
        func fill() throws -> RowBatch {
            let batch = try RowBatch(columns: columns, settings: TablesFixture.settings())
            try batch.append(bytes, from: 105, partition: 0)
            return batch
        }
        let (batch, other) = (try fill(), try fill())
        #expect(batch.rowCount + batch.rejectCount == values.count - 5)
        #expect(batch.rowCount > 100 && batch.rejectCount > 100)
        let connection = try TablesFixture.memory()
        try TablesFixture.write(batch, to: connection)
        let rows = try connection.query("SELECT * FROM t ORDER BY _offset").rows()
        let offsets = try connection.query(
            "SELECT count(*), count(DISTINCT _offset) FROM (SELECT _offset FROM t UNION ALL SELECT _offset FROM rejects)"
        ).rows()
        #expect(offsets == [[.int(Int64(values.count - 5)), .int(Int64(values.count - 5))]])
        let raw = try connection.query("SELECT _offset, value FROM rejects").rows()
        for row in raw {
            guard case .int(let offset) = row[0] else { continue }
            #expect(row[1] == values[Int(offset) - 100].map { .blob($0) } ?? .null)
        }
        #expect(other.columns == batch.columns)
        #expect(try TablesFixture.rows(other, "SELECT * FROM t ORDER BY _offset") == rows)
        try compare(rows, values, batch.columns)
    }

    private func compare(_ rows: [[DuckDBValue]], _ values: [[UInt8]?], _ columns: [TablesFixture.Column]) throws {
        var places: [String: Int] = [:]
        for (place, column) in columns.enumerated() {
            places[Self.folded(column.name)] = place + SystemColumns.json.count
        }
        for row in rows {
            guard case .int(let offset) = row[1], let bytes = values[Int(offset) - 100] else {
                Issue.record("row \(row[1]) has no value")
                continue
            }
            // The parser refuses numbers too large for a double, which are right in the text of a JSON column.
            let text = String(decoding: bytes, as: UTF8.self)
            if text.contains("e999"), JSONCursor.isValid(bytes) { continue }
            guard case .object(let object) = try JSONValue(parsing: bytes) else {
                Issue.record("row \(row[1]) is no object")
                continue
            }
            var left = Set(SystemColumns.json.count..<row.count)
            for member in object.members where member.value != .null {
                let place = try #require(places[Self.folded(member.key)])
                left.remove(place)
                let type = columns[place - SystemColumns.json.count].type
                #expect(matches(row[place], member.value, type), "\(member.key): \(row[place]) of \(member.value)")
            }
            #expect(left.allSatisfy { row[$0] == .null })
        }
    }

    private static func folded(_ name: String) -> String {
        String(decoding: name.utf8.map { (0x41...0x5A).contains($0) ? $0 | 0x20 : $0 }, as: UTF8.self)
    }

    /// Whether a value read back says what the parser says.
    private func matches(_ value: DuckDBValue, _ json: JSONValue, _ type: String) -> Bool {
        switch (value, json) {
        case (.bool(let left), .bool(let right)): return left == right
        case (.int(let left), .int(let right)): return left == right
        case (.double(let left), .int(let right)): return Int64(exactly: left) == right
        case (.double(let left), .double), (.double(let left), .number):
            return left.bitPattern == json.doubleValue?.bitPattern
        case (.decimal(let left), .int(let right)) where left.scale == 0: return left.unscaled == Int128(right)
        case (.decimal(let left), _):
            let text = json.stringValue ?? json.text
            return Double(text).map { abs($0 - (Double(left.description) ?? .nan)) <= abs($0) * 1e-15 } ?? false
        case (.string(let left), .string(let right)): return left == right
        case (.string(let left), _) where type == "VARCHAR", (.json(let left), _):
            return (try? JSONValue(parsing: left)) == json
        case (.timestamp, .string): return true
        default: return false
        }
    }

    @Test func takesAnyBytes() throws {
        var random = SeededGenerator(state: 99)
        let whole = TablesFixture.batch((0..<50).map { _ in Self.record(&random) }, base: 7)
        for round in 0..<3_000 {
            var bytes = whole + whole
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            if round % 3 == 0 { bytes.removeLast(Int.random(in: 0..<bytes.count, using: &random)) }
            if round % 10 == 0 { bytes = bytes.map { _ in UInt8.random(in: 0...255, using: &random) } }
            let batch = try RowBatch(columns: [], settings: TablesFixture.settings(round % 2 == 0 ? .json : .raw))
            do {
                try batch.append(bytes, partition: 0, verifiesChecksums: round % 4 == 0)
            } catch {
                #expect(error.code != .checksumMismatch)
            }
            #expect(batch.rowCount + batch.rejectCount <= 102)
        }
    }
}
