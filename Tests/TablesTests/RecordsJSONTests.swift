// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import DuckDB
import KafkaCodec
import MartletCore
import Tables
import Testing

@Suite struct RecordsJSONTests {
    @Test func infersTypesInOrderOfAppearance() throws {
        let batch = try TablesFixture.fill([
            #"{"id":123,"user":"user-99","action":"click","price":12.34,"ok":true,"at":"2026-11-21T10:00:01Z","n":null}"#,
            #" { "user" : "a much longer name than twelve" , "id" : -5 , "more" : { "a" : [1, 2] } , "ok":false } "#,
            #"{"huge":123456789012345678901,"list":[ ],"id":null,"price":-1e-3}"#,
        ])
        #expect(
            batch.columns.map { "\($0.name) \($0.type)" } == [
                "id BIGINT", "user VARCHAR", "action VARCHAR", "price DOUBLE", "ok BOOLEAN", "at VARCHAR", "more JSON",
                "huge DECIMAL(38,0)", "list JSON",
            ]
        )
        #expect(batch.rowCount == 3 && batch.rejectCount == 0)
        #expect(batch.addedColumnCount == 9 && !batch.hasWidenedColumns)
        #expect(batch.nextOffset == 3 && batch.maxTimestamp == 1_002)
        let rows = try TablesFixture.rows(
            batch,
            "SELECT _partition, _offset, _timestamp, len(_headers), _key, id, user, price, ok, \"at\", more, huge, list FROM t"
        )
        let common: (Int64) -> [DuckDBValue] = {
            [.int(3), .int($0), .timestamp(1_000_000 + $0 * 1_000), .int(0), .null]
        }
        #expect(
            rows == [
                common(0) + [
                    .int(123), .string("user-99"), .double(12.34), .bool(true), .string("2026-11-21T10:00:01Z"), .null,
                    .null,
                    .null,
                ],
                common(1) + [
                    .int(-5), .string("a much longer name than twelve"), .null, .bool(false), .null,
                    .json(#"{ "a" : [1, 2] }"#), .null, .null,
                ],
                common(2) + [
                    .null, .null, .double(-0.001), .null, .null, .null,
                    .decimal(DecimalValue(unscaled: 123_456_789_012_345_678_901, width: 38, scale: 0)), .json("[ ]"),
                ],
            ]
        )
    }

    @Test func widensInferredColumns() throws {
        let batch = try TablesFixture.fill([
            #"{"a":1,"b":2,"c":9007199254740993}"#, #"{"a":1.5,"b":12345678901234567890,"c":1}"#, #"{"c":0.5}"#,
            #"{"a":9007199254740993}"#, #"{"a":3,"b":5.0}"#, #"{"b":5.5}"#,
        ])
        #expect(batch.columns.map(\.type) == ["DOUBLE", "DECIMAL(38,0)", "BIGINT"])
        #expect(batch.columns.map(\.hasLargeIntegers) == [false, true, true])
        #expect(batch.hasWidenedColumns)
        let rows = try TablesFixture.rows(batch, "SELECT a, b::VARCHAR, c FROM t ORDER BY _offset")
        #expect(
            rows == [
                [.double(1), .string("2"), .int(9_007_199_254_740_993)],
                [.double(1.5), .string("12345678901234567890"), .int(1)],
                [.double(3), .string("5"), .null],
            ]
        )
        let reasons = try TablesFixture.reasons(batch)
        #expect(reasons.count == 3)
        #expect(
            reasons[0]
                == #"the field "c" has the number 0.5, which does not fit the column's type BIGINT; declare it as JSON: "#
                + "martlet tables update clicks --column c=JSON"
        )
        #expect(reasons[1].contains("type DOUBLE") && reasons[2].contains("type DECIMAL(38,0)"))
    }

    @Test func aRejectLeavesNoTrace() throws {
        let batch = try TablesFixture.fill([
            #"{"a":1}"#, #"{"new":1,"a":9007199254740993,"b":"x","b":2}"#, #"{"a":2.5,"c":"\ud800"}"#,
            #"{"a":"text","d":1}"#,
        ])
        #expect(batch.columns == [TablesFixture.Column(name: "a", type: "BIGINT")])
        #expect(batch.rowCount == 1 && batch.rejectCount == 3 && !batch.hasWidenedColumns)
        #expect(try TablesFixture.rows(batch, "SELECT a FROM t") == [[.int(1)]])
    }

    @Test(arguments: [
        ("[1]", "is the array [1], not an object"), ("3", "the number 3"), ("", "the value is empty"), ("  ", "empty"),
        ("{", "ends before its end"), (#"{"a":1"#, "ends before"), (#"{"a":1}x"#, "byte 7 is not expected: x"),
        (#"{"a":01}"#, "byte 6"), (#"{"a":-}"#, "byte 5"), (#"{"a":1,}"#, "byte 7"), (#"{"a" 1}"#, "byte 5"),
        (#"{"a":"\x"}"#, "byte 7"), ("{\"a\":\"\n\"}", "byte 6"), (#"{"a":truE}"#, "byte 5"), (#"{"a":nul}"#, "byte 5"),
        (#"{"a":"\udc00"}"#, "surrogate"), (#"{"a":["\ud800x"]}"#, "surrogate"), (#"{"":1}"#, "empty name"),
        (#"{"a\u0000":1}"#, "NUL"), (#"{"_OFFSET":1}"#, "system column"), (#"{"a":1,"A":null}"#, "appears twice"),
        (#"{"a":1e999}"#, "too large"), (#"{"a":123456789012345678901234567890123456789}"#, "at most 38 digits"),
        (#"{"a":.5}"#, "byte 5"), (#"{"a":1.}"#, "byte 5"), (#"{"a":1.5.5}"#, "byte 8"), ("{\"a\u{1}\":1}", "byte 3"),
    ]) func rejects(_ text: String, _ reason: String) throws {
        let batch = try TablesFixture.fill([text])
        let reasons = try TablesFixture.reasons(batch)
        #expect(reasons.count == 1 && reasons.first?.contains(reason) == true, "\(reasons)")
        #expect(batch.rowCount == 0 && batch.columns.isEmpty)
    }

    @Test func limitsNestingNamesAndColumns() throws {
        let deep = { (levels: Int) in
            #"{"a":"# + String(repeating: "[", count: levels) + String(repeating: "]", count: levels) + "}"
        }
        let name = { (count: Int) in "{\"" + String(repeating: "n", count: count) + "\":1}" }
        let batch = try TablesFixture.fill(
            [deep(511), deep(512), name(255), name(256), #"{"x":1}"#, #"{"y":1}"#],
            settings: TablesFixture.settings(columnsMax: 3)
        )
        #expect(batch.rowCount == 3)
        let reasons = try TablesFixture.reasons(batch)
        #expect(reasons.count == 3 && reasons[0].contains("512 levels") && reasons[1].contains("256 bytes"))
        #expect(reasons[2].contains("would be column 4"))
    }

    @Test func foldsCaseAsDuckDBDoes() throws {
        let batch = try TablesFixture.fill([#"{"User":1,"Ä":1}"#, #"{"user":2,"ä":2}"#, #"{"\u0055SER":3}"#])
        #expect(batch.columns.map(\.name) == ["User", "Ä", "ä"])
        #expect(try TablesFixture.rows(batch, "SELECT sum(user), sum(\"ä\") FROM t") == [[.hugeint(6), .hugeint(2)]])
    }

    @Test func resolvesEscapes() throws {
        let batch = try TablesFixture.fill([
            #"{"k\u0065y":"a\"\\\/\b\f\n\r\t","s":"\ud83d\ude00 and a long tail \u00e9","z":"nul\u0000inside"}"#,
            #"{"key":"ünïcödé","s":"日本語テキスト","z":""}"#,
        ])
        #expect(batch.columns.map(\.name) == ["key", "s", "z"])
        #expect(
            try TablesFixture.rows(batch, "SELECT key, s, z FROM t ORDER BY _offset") == [
                [.string("a\"\\/\u{8}\u{c}\n\r\t"), .string("😀 and a long tail é"), .string("nul\0inside")],
                [.string("ünïcödé"), .string("日本語テキスト"), .string("")],
            ]
        )
    }

    @Test func followsUnknownFieldsRules() throws {
        let columns = [TablesFixture.Column(name: "a", type: "BIGINT", isDeclared: true)]
        let texts = [#"{"a":1,"b":2}"#, #"{"b":{"c":[1]},"a":2}"#, #"{"A":3}"#, #"{"a":4,"b":null,"B":1}"#]
        let ignoring = try TablesFixture.fill(texts, columns: columns, settings: TablesFixture.settings(.json, .ignore))
        #expect(ignoring.columns == columns && ignoring.rowCount == 3 && ignoring.rejectCount == 1)
        let rejecting = try TablesFixture.fill(
            texts,
            columns: columns,
            settings: TablesFixture.settings(.json, .reject)
        )
        #expect(rejecting.columns == columns && rejecting.rowCount == 1 && rejecting.rejectCount == 3)
        #expect(try TablesFixture.reasons(rejecting)[0].contains(#"the field "b" is no column"#))
    }

    @Test func keepsDeclaredTypes() throws {
        let types = [
            "BOOLEAN", "BIGINT", "HUGEINT", "DOUBLE", "DECIMAL(4,1)", "DECIMAL(12,2)", "VARCHAR", "JSON", "DATE",
            "TIMESTAMP",
        ]
        let columns = types.enumerated().map { TablesFixture.Column(name: "c\($0)", type: $1, isDeclared: true) }
        let batch = try TablesFixture.fill(
            [
                #"{"c0":true,"c1":5.0,"c2":170141183460469231731687303715884105727,"c3":3,"c4":"12.5","c5":1e3,"c6":{"a": 1},"c7":"text","c8":"2026-02-28","c9":"2026-02-28T12:00:00.5+01:00"}"#,
                #"{"c1":9223372036854775807,"c2":-1.0,"c3":1e400}"#, #"{"c1":5.5}"#, #"{"c4":1000}"#, #"{"c4":1.25}"#,
                #"{"c8":"2026-02-30"}"#,
                #"{"c9":1700000000}"#, #"{"c0":1}"#, #"{"c6":12.50,"c7":null,"c1":-9223372036854775808}"#,
                #"{"c1":9223372036854775808}"#,
            ],
            columns: columns
        )
        #expect(batch.columns == columns && batch.rowCount == 2 && batch.rejectCount == 8)
        let rows = try TablesFixture.rows(
            batch,
            "SELECT * EXCLUDE (\(SystemColumns.json.map(\.name).joined(separator: ","))) FROM t"
        )
        #expect(
            rows[0] == [
                .bool(true), .int(5), .hugeint(.max), .double(3),
                .decimal(DecimalValue(unscaled: 125, width: 4, scale: 1)),
                .decimal(DecimalValue(unscaled: 100_000, width: 12, scale: 2)), .string(#"{"a": 1}"#),
                .json(#""text""#),
                .date(20_512), .timestamp(1_772_276_400_500_000),
            ]
        )
        #expect(rows[1][6] == .string("12.50") && rows[1][1] == .int(.min))
    }

    @Test func refusesUnknownTypes() {
        #expect(throws: RowBatchError.self) {
            _ = try RowBatch(
                columns: [TablesFixture.Column(name: "a", type: "UUID")],
                settings: TablesFixture.settings()
            )
        }
    }

    @Test func readsTimestampsAsTheCalendarDoes() throws {
        let columns = [TablesFixture.Column(name: "at", type: "TIMESTAMP", isDeclared: true)]
        var texts: [String] = []
        for index in 0..<4_000 {
            let micros =
                Int64(index) &* 1_234_567_890_123_457 % 60_000_000_000_000_000 - Int64(index % 7)
                * 8_000_000_000_000_000
            texts.append(CalendarText.timestamp(micros, unitsPerSecond: 1_000_000, separator: "T") + "Z")
        }
        texts += [
            "2026-02-29T00:00:00Z", "2024-02-29T00:00:00.1Z", "2026-01-01T24:00:00Z", "2026-01-01T00:00:00.Z",
            "2026-01-0:T00:00:00Z",
        ]
        let batch = try TablesFixture.fill(texts.map { #"{"at":"\#($0)"}"# }, columns: columns)
        let rows = try TablesFixture.rows(batch, "SELECT _offset, \"at\" FROM t")
        let wanted = texts.enumerated().compactMap { offset, text in
            CalendarText.parseTimestamp(text).map { [DuckDBValue.int(Int64(offset)), .timestamp($0)] }
        }
        #expect(rows == wanted && rows.count > 3_000)
    }
}
