// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
import Lake
import Testing

@Suite struct TableTransactionTests {
    private func decode(_ text: String) throws(LakeError) -> TableTransaction {
        try TableTransaction.decode(Array(text.utf8))
    }

    @Test func readsTheDocumentedExample() throws {
        let transaction = try decode(
            """
            {"traceparent":"00-ab","operations":[
              {"op":"upsert","table":"files","key":["path"],"columns":["path","size_bytes"],"rows":[["a.exr",415]]},
              {"op":"delete","table":"parts","columns":["file_path"],"rows":[["a.exr"]]}]}
            """
        )
        #expect(transaction.traceparent == "00-ab")
        #expect(transaction.operations.map(\.table) == ["files", "parts"])
        #expect(transaction.rowCount == 2)
        #expect(transaction.operations[0].rows.columns.map { $0.values?.type } == [.varchar, .bigint])
    }

    @Test(
        arguments: [
            ("null", nil), ("true", .boolean), ("1", .bigint), ("1.0", .double), ("1e3", .double), ("\"x\"", .varchar),
            ("[1]", .json), ("{\"a\":1}", .json), ("{}", .json), ("{\"$date\":\"2026-04-08\"}", .date),
            ("{\"$timestamp\":\"2026-04-08T15:41:29Z\"}", .timestamp), ("{\"$bytes\":\"AP8=\"}", .blob),
            ("{\"$float\":\"NaN\"}", .double), ("{\"$decimal\":\"12.30\"}", .decimal(width: 38, scale: 2)),
            ("{\"$decimal\":\"9223372036854775808\"}", .hugeint),
            ("{\"$decimal\":\"1E+3\"}", .decimal(width: 38, scale: 0)),
            ("{\"$date\":\"2026-04-08\",\"b\":1}", .json), ("{\"$other\":\"x\"}", .json), ("{\"$date\":5}", .json),
        ] as [(String, ColumnType?)]
    )
    func valuesHaveTheirTypes(value: String, type: ColumnType?) throws {
        let transaction = try decode(
            "{\"operations\":[\(upsert("t", key: "k", columns: "k,v", rows: "[1,\(value)]"))]}"
        )
        #expect(transaction.operations[0].rows.columns[1].values?.type == type)
    }

    @Test(arguments: [
        ("1], [2, 1.5", ColumnType.double), ("1], [2, {\"$decimal\":\"1.5\"}", .decimal(width: 38, scale: 1)),
        ("1], [2, {\"$decimal\":\"9223372036854775808\"}", .hugeint),
        ("{\"$date\":\"2026-04-08\"}], [2, {\"$timestamp\":\"2026-04-08T01:00:00\"}", .timestamp),
        ("null], [2, true", .boolean),
    ])
    func columnsWidenWithinAnOperation(values: String, type: ColumnType) throws {
        let transaction = try decode(
            "{\"operations\":[\(upsert("t", key: "k", columns: "k,v", rows: "[1,\(values)]"))]}"
        )
        #expect(transaction.operations[0].rows.columns[1].values?.type == type)
        #expect(transaction.operations[0].rows.columns[1].values?.count == 2)
    }

    @Test(arguments: [
        ("1], [2, \"x\"", "row 1"), ("9007199254740993], [2, 1.5", "9007199254740993"), ("\"x\"], [2, [1]", "JSON"),
        ("true], [2, 1", "BIGINT"), ("1.5], [2, {\"$decimal\":\"1.5\"}", "DECIMAL"),
        ("12345678901234567890", "64 bits"),
        ("1e999", "too large"), ("{\"$date\":\"2026-02-30\"}", "2026-04-08"), ("{\"$bytes\":\"A\"}", "base64"),
        ("{\"$timestamp\":\"noon\"}", "noon"), ("{\"$float\":\"nan\"}", "NaN"), ("{\"$decimal\":\"x\"}", "decimal"),
    ])
    func badValuesAreRefusedWithTheirPlace(values: String, mention: String) throws {
        let error = #expect(throws: LakeError.self) {
            try decode("{\"operations\":[\(upsert("t", key: "k", columns: "k,v", rows: "[1,\(values)]"))]}")
        }
        #expect(error?.operation == 0)
        #expect(error?.table == "t")
        #expect(error?.column == "v")
        #expect(error?.row != nil)
        #expect(error?.description.contains(mention) == true, "\(error.debugDescription)")
    }

    @Test(arguments: [
        ("", "byte 0"), ("[]", "an object"), ("{}", "operations"), ("{\"operations\":[],\"x\":1}", "\"x\""),
        ("{\"operations\":[{}]}", "table"), ("{\"operations\":[{\"op\":\"upsert\",\"table\":\"a b\"}]}", "a b"),
        ("{\"operations\":[{\"op\":\"upsert\",\"table\":\"1a\"}]}", "1a"),
        ("{\"operations\":[{\"op\":\"move\",\"table\":\"t\",\"columns\":[\"a\"],\"rows\":[]}]}", "move"),
        ("{\"operations\":[{\"op\":\"upsert\",\"table\":\"t\",\"columns\":[\"a\"],\"rows\":[]}]}", "key"),
        ("{\"operations\":[{\"op\":\"delete\",\"table\":\"t\",\"columns\":[\"a\",\"A\"],\"rows\":[]}]}", "twice"),
        ("{\"operations\":[{\"op\":\"delete\",\"table\":\"t\",\"columns\":[\"a\"],\"rows\":[[1,2]]}]}", "more values"),
        ("{\"operations\":[{\"op\":\"delete\",\"table\":\"t\",\"columns\":[\"a\",\"b\"],\"rows\":[[1]]}]}", "1 values"),
        ("{\"operations\":[{\"op\":\"delete\",\"table\":\"t\",\"columns\":[],\"rows\":[]}]}", "empty"),
        ("{\"operations\":[{\"op\":\"upsert\",\"table\":\"t\",\"key\":[\"b\"],\"columns\":[\"a\"],\"rows\":[]}]}", "b"),
        ("{\"operations\":[]} x", "byte 18"),
    ])
    func malformedTransactionsSayWhatIsWrong(text: String, mention: String) {
        let error = #expect(throws: LakeError.self) { try decode(text) }
        #expect(error?.description.contains(mention) == true, "\(error.debugDescription)")
    }

    @Test func columnsMayStandBehindRows() throws {
        let transaction = try decode(
            #"{"operations":[{"rows":[["a"]],"columns":["k"],"key":["k"],"table":"t","op":"upsert"}]}"#
        )
        #expect(transaction.rowCount == 1)
    }
}
