// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
import Lake
import Testing

@Suite(.timeLimit(.minutes(5))) struct LakeCommitTests {
    @Test func upsertsInsertAndReplaceAndDeletesRemove() async throws {
        try await LakeFixture.with { lake in
            let first = try await lake.commit(
                [
                    upsert("files", key: "path", columns: "path,size", rows: #"["a",1],["b",2]"#),
                    upsert(
                        "parts",
                        key: "path,i",
                        columns: "path,i,name",
                        rows: #"["a",0,"x"],["a",1,"y"],["b",0,"z"]"#
                    ),
                ].joined(separator: ",")
            )
            #expect(first["files"] == TableCommitResult.Counts(upserted: 2, deleted: 0))
            let second = try await lake.commit(
                [
                    delete("parts", columns: "path", rows: #"["a"],["none"]"#),
                    upsert("parts", key: "path,i", columns: "path,i,name", rows: #"["a",0,"new"]"#),
                    upsert("files", key: "path", columns: "path,size", rows: #"["a",7]"#),
                ].joined(separator: ",")
            )
            #expect(second["parts"] == TableCommitResult.Counts(upserted: 1, deleted: 2))
            #expect(second["files"] == TableCommitResult.Counts(upserted: 1, deleted: 0))
            #expect(
                try await lake.rows("FROM parts ORDER BY ALL") == [
                    [.string("a"), .int(0), .string("new")], [.string("b"), .int(0), .string("z")],
                ]
            )
            #expect(
                try await lake.rows("FROM files ORDER BY ALL") == [[.string("a"), .int(7)], [.string("b"), .int(2)]]
            )
            let third = try await lake.commit(delete("FILES", columns: "size", rows: "[7],[8]"))
            #expect(third["FILES"] == TableCommitResult.Counts(upserted: 0, deleted: 1))
        }
    }

    @Test func operationsApplyInOrder() async throws {
        try await LakeFixture.with { lake in
            func row(_ value: String) -> String { upsert("t", key: "k", columns: "k,v", rows: "[1,\(value)]") }
            let gone = delete("t", columns: "k", rows: "[1]")
            let goneByValue = delete("t", columns: "v", rows: "[3]")
            let cases: [([String], [[DuckDBValue]], Int)] = [
                ([row("1"), row("2")], [[.int(1), .int(2)]], 0),
                ([gone, row("3")], [[.int(1), .int(3)]], 1),
                ([row("4"), gone], [], 1),
                ([row("5"), gone, row("6")], [[.int(1), .int(6)]], 1),
                ([gone, row("3"), goneByValue], [], 2),
                ([row("3"), goneByValue, row("8")], [[.int(1), .int(8)]], 1),
                ([gone, gone, row("9"), row("10")], [[.int(1), .int(10)]], 1),
                ([row("3"), row("4"), goneByValue], [[.int(1), .int(4)]], 0),
            ]
            for (operations, expected, deleted) in cases {
                let result = try await lake.commit(operations.joined(separator: ","))
                #expect(try await lake.rows("FROM t") == expected, "\(operations)")
                #expect(result["t"]?.deleted == deleted, "\(operations)")
            }
        }
    }

    @Test func upsertsTouchOnlyTheirColumns() async throws {
        try await LakeFixture.with { lake in
            try await lake.commit(upsert("t", key: "k", columns: "k,a,b", rows: "[1,10,20],[2,11,21]"))
            try await lake.commit(
                [
                    upsert("t", key: "k", columns: "k,a", rows: "[1,100],[3,300]"),
                    upsert("t", key: "k", columns: "b,k", rows: "[200,1],[null,2]"),
                    upsert("t", key: "k", columns: "k", rows: "[4],[1]"),
                ].joined(separator: ",")
            )
            #expect(
                try await lake.rows("SELECT k, a, b FROM t ORDER BY k") == [
                    [.int(1), .int(100), .int(200)], [.int(2), .int(11), .null], [.int(3), .int(300), .null],
                    [.int(4), .null, .null],
                ]
            )
        }
    }

    @Test func laterRowsOfOneOperationWin() async throws {
        try await LakeFixture.with { lake in
            try await lake.commit(upsert("t", key: "k", columns: "k,v", rows: #"["x",1],["y",2],["x",3]"#))
            #expect(try await lake.rows("FROM t ORDER BY k") == [[.string("x"), .int(3)], [.string("y"), .int(2)]])
        }
    }

    @Test func everyTypeIsKeptExactly() async throws {
        try await LakeFixture.with { lake in
            let values = [
                "true", "9223372036854775807", "0.1", #""é\u0000'\"😀""#, #"{"a": [1, null]}"#, #"{"$bytes":"AP8="}"#,
                #"{"$timestamp":"2026-04-08T15:41:29.591955Z"}"#, #"{"$date":"2026-04-08"}"#, #"{"$decimal":"-12.30"}"#,
                #"{"$decimal":"-99999999999999999999"}"#, #"{"$float":"NaN"}"#, #"{"$float":"-Infinity"}"#,
            ]
            let names = values.indices.map { "c\($0)" }.joined(separator: ",")
            try await lake.commit(
                upsert("t", key: "k", columns: "k,\(names)", rows: "[1,\(values.joined(separator: ","))]")
            )
            let row = try await lake.rows("FROM t")[0]
            #expect(
                row.dropLast(2) == [
                    .int(1), .bool(true), .int(.max), .double(0.1), .string("é\u{0}'\"😀"), .json(#"{"a": [1, null]}"#),
                    .blob([0, 255]), .timestamp(1_775_662_889_591_955), .date(20_551),
                    .decimal(DecimalValue(unscaled: -1230, width: 38, scale: 2)), .hugeint(-99_999_999_999_999_999_999),
                ]
            )
            guard case .double(let nan) = row[11], case .double(let infinity) = row[12] else {
                Issue.record("the doubles are \(row.suffix(2))")
                return
            }
            #expect(nan.isNaN)
            #expect(infinity == -.infinity)
        }
    }

    @Test func tablesAreWidenedAsRowsAsk() async throws {
        try await LakeFixture.with { lake in
            func put(_ k: Int, _ column: String, _ value: String) async throws {
                try await lake.commit(upsert("t", key: "k", columns: "k,\(column)", rows: "[\(k),\(value)]"))
            }
            try await put(1, "i", "7")
            try await put(2, "i", "1.5")
            try await put(1, "h", "7")
            try await put(2, "h", #"{"$decimal":"9223372036854775808"}"#)
            try await put(1, "d", "5")
            try await put(2, "d", #"{"$decimal":"1.25"}"#)
            try await put(3, "d", #"{"$decimal":"0.125"}"#)
            try await put(4, "d", "6")
            try await put(1, "s", #"{"$date":"2026-04-08"}"#)
            try await put(2, "s", #"{"$timestamp":"2026-04-08T01:00:00Z"}"#)
            try await put(5, "n", "null")
            let table = try await lake.table("T")
            #expect(table.rowCount == 5)
            #expect(
                table.schema.columns.map(\.typeName) == [
                    "BIGINT", "DOUBLE", "HUGEINT", "DECIMAL(38,3)", "TIMESTAMP",
                ]
            )
            #expect(try await lake.rows("SELECT i FROM t WHERE k < 3 ORDER BY k") == [[.double(7)], [.double(1.5)]])
            #expect(
                try await lake.rows("SELECT d::VARCHAR FROM t WHERE d IS NOT NULL ORDER BY d").flatMap { $0 } == [
                    .string("0.125"), .string("1.250"), .string("5.000"), .string("6.000"),
                ]
            )
        }
    }

    @Test func whatCannotBeWidenedIsRefusedWithThePlace() async throws {
        try await LakeFixture.with { lake in
            try await lake.commit(
                upsert("t", key: "k", columns: "k,i,s,j,big", rows: #"[1,1,"x",[1],9007199254740993]"#)
            )
            let cases: [(String, String, LakeError.Code, String)] = [
                ("k,i", #"[2,5],[3,"x"]"#, .typeConflict, "VARCHAR"), ("k,i", #"[2,"x"]"#, .typeConflict, "BIGINT"),
                ("k,s", "[2,1]", .typeConflict, "VARCHAR"), ("k,j", #"[2,"x"]"#, .typeConflict, "JSON"),
                ("k,big", "[2,1.5]", .typeConflict, "9007199254740993"), ("k,i", "[null,1]", .invalidKey, "NULL"),
                ("k,i", "[1.5,1]", .typeConflict, "key"), ("k,i", #"[{"$float":"NaN"},1]"#, .invalidKey, "NaN"),
            ]
            for (columns, rows, code, mention) in cases {
                let error = await lake.refusal(upsert("t", key: "k", columns: columns, rows: rows))
                #expect(error?.code == code, "\(columns) \(rows): \(String(describing: error))")
                #expect(error?.description.contains(mention) == true, "\(String(describing: error))")
                #expect(error?.table == "t" && error?.column != nil, "\(String(describing: error))")
            }
            let mismatch = await lake.refusal(upsert("t", key: "k,i", columns: "k,i", rows: "[1,1]"))
            #expect(mismatch?.code == .keyMismatch)
            let column = await lake.refusal(delete("t", columns: "nosuch", rows: "[1]"))
            #expect(column?.code == .unknownColumn)
            let type = await lake.refusal(delete("t", columns: "i", rows: #"["x"]"#))
            #expect(type?.code == .typeConflict)
            #expect(try await lake.rows("SELECT count(*), min(i) FROM t") == [[.int(1), .int(1)]])
        }
    }

    @Test func aRefusedTransactionLeavesNothing() async throws {
        try await LakeFixture.with { lake in
            try await lake.commit(upsert("a", key: "k", columns: "k", rows: "[1]"))
            let error = await lake.refusal(
                [
                    upsert("b", key: "k", columns: "k", rows: "[1]"), delete("a", columns: "k", rows: "[1]"),
                    upsert("a", key: "k", columns: "k,fresh", rows: "[2,2]"),
                    upsert("a", key: "k", columns: "k", rows: #"["text"]"#),
                ].joined(separator: ",")
            )
            #expect(error?.operation == 3)
            #expect(try await lake.rows("FROM a") == [[.int(1)]])
            #expect(try await lake.tables().map(\.schema.name) == ["a"])
        }
    }

    @Test func oneGuiltyTransactionDoesNotHarmTheOthersOfItsGroup() async throws {
        try await LakeFixture.with { lake in
            try await lake.commit(upsert("t", key: "k", columns: "k,v", rows: "[0,9007199254740993]"))
            let outcomes = try await withThrowingTaskGroup(of: (Int, Bool).self) { group in
                for number in 1...60 {
                    group.addTask {
                        // Every tenth asks for a widening that only DuckDB can refuse, since the rows decide.
                        let value = number % 10 == 0 ? "0.5" : "\(number)"
                        let operations = upsert("t", key: "k", columns: "k,v", rows: "[\(number),\(value)]")
                        return (number, await lake.refusal(operations) == nil)
                    }
                }
                return try await group.reduce(into: [:]) { $0[$1.0] = $1.1 }
            }
            for number in 1...60 { #expect(outcomes[number] == (number % 10 != 0), "\(number)") }
            #expect(try await lake.rows("SELECT count(*) FROM t") == [[.int(55)]])
        }
    }

    @Test func concurrentCommittersLoseNothing() async throws {
        try await LakeFixture.with { lake in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for committer in 0..<16 {
                    group.addTask {
                        for number in 0..<20 {
                            try await lake.commit(
                                [
                                    upsert("counters", key: "id", columns: "id,n", rows: "[\(committer),\(number)]"),
                                    upsert("log", key: "id,n", columns: "id,n", rows: "[\(committer),\(number)]"),
                                    upsert(
                                        "w\(committer % 3)",
                                        key: "id",
                                        columns: "id,c\(number)",
                                        rows: "[\(committer),1]"
                                    ),
                                ].joined(separator: ",")
                            )
                        }
                    }
                }
                try await group.waitForAll()
            }
            #expect(
                try await lake.rows("SELECT count(*), min(n), max(n) FROM counters") == [
                    [.int(16), .int(19), .int(19)]
                ]
            )
            #expect(try await lake.rows("SELECT count(*) FROM log") == [[.int(320)]])
            #expect(try await lake.table("w0").schema.columns.count == 21)
        }
    }

    @Test func largeTransactionsAreWritten() async throws {
        try await LakeFixture.with { lake in
            let rows = (0..<30_000).map { "[\($0),\"row \($0)\"]" }.joined(separator: ",")
            try await lake.commit(upsert("t", key: "k", columns: "k,v", rows: rows))
            try await lake.commit(upsert("t", key: "k", columns: "k,v", rows: rows))
            let keys = (0..<1_000).map { "[\($0 * 2)]" }.joined(separator: ",")
            let result = try await lake.commit(delete("t", columns: "k", rows: keys))
            #expect(result["t"]?.deleted == 1_000)
            let pairs = (0..<300).map { "[\($0 * 2 + 1),\"row \($0 * 2 + 1)\"]" }.joined(separator: ",")
            let both = try await lake.commit(delete("t", columns: "k,v", rows: pairs + ",[5,null]"))
            #expect(both["t"]?.deleted == 300)
            #expect(try await lake.rows("SELECT count(*) FROM t") == [[.int(28_700)]])
        }
    }
}
