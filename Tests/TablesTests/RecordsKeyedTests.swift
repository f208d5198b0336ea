// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import DuckDB
import KafkaCodec
import MartletCore
import Tables
import Testing

@Suite struct RecordsKeyedTests {
    private typealias Column = TablesFixture.Column

    private static let id = [Column(name: "id", type: "VARCHAR", isDeclared: true)]
    private static let pair = [
        Column(name: "Id", type: "BIGINT", isDeclared: true), Column(name: "day", type: "DATE", isDeclared: true),
    ]

    private func settings(_ key: [String], _ unknown: TableSpec.UnknownFields = .add) -> RowBatchSettings {
        RowBatchSettings(table: "t", topic: "t", unknownFields: unknown, key: key)
    }

    private func fill(
        _ records: [(key: String?, value: String?)],
        _ columns: [Column],
        _ key: [String],
        _ unknown: TableSpec.UnknownFields = .add
    ) throws -> RowBatch {
        let batch = try RowBatch(columns: columns, settings: settings(key, unknown))
        let made = records.map { record in
            Record(
                timestamp: 1,
                key: record.key.map { Array($0.utf8) },
                value: record.value.map { Array($0.utf8) },
                headers: []
            )
        }
        try batch.append(TablesFixture.records(made), partition: 0)
        return batch
    }

    /// Rows with `deletes` first, in order, and the reasons of rejects.
    private func read(_ batch: RowBatch) throws -> (rows: [[String]], reasons: [String]) {
        let connection = try TablesFixture.memory()
        let list = batch.columns.map { ", \"\($0.name)\" \($0.type)" }.joined()
        try connection.execute("CREATE TABLE t(deletes BOOLEAN\(list))")
        let rows = try VectorAppender(connection: connection, table: "t")
        try batch.writeKeyed(to: rows)
        try rows.flush()
        try connection.execute("CREATE TABLE r\(SystemColumns.sql(SystemColumns.rejects))")
        let rejects = try VectorAppender(connection: connection, table: "r")
        try batch.writeRejects(to: rejects, rejectedAt: 0)
        try rejects.flush()
        return (
            try connection.query("FROM t").rows().map { $0.map(\.text) },
            try connection.query("SELECT reason FROM r ORDER BY _offset").rows().map { $0[0].text }
        )
    }

    @Test func valuesAreRowsWithoutSystemColumns() throws {
        let (rows, reasons) = try read(
            fill([("x", #"{"id":"a","n":1}"#), (nil, #"{"n":2.5,"ID":"b"}"#)], Self.id, ["id"])
        )
        #expect(rows == [["", "a", "1.0"], ["", "b", "2.5"]])
        #expect(reasons.isEmpty)
    }

    @Test(arguments: [
        ("plain", "plain"), (#""quoted""#, "quoted"), ("12", "12"), ("007", "007"), ("null", "null"), ("true", "true"),
        (#"{"id":"of an object","x":1}"#, "of an object"), (#"{"other":1}"#, #"{"other":1}"#), ("[1]", "[1]"),
        ("a\"b\\c\n", "a\"b\\c\n"), ("zürich", "zürich"), (" ", " "),
    ])
    func aRecordWithoutAValueDeletesTheRowOfItsKey(_ key: String, _ id: String) throws {
        let (rows, reasons) = try read(fill([(key, nil)], Self.id, ["id"], .reject))
        #expect(rows == [["true", id]])
        #expect(reasons.isEmpty)
    }

    @Test func severalKeyColumnsAreDeletedByAnObject() throws {
        let batch = try fill(
            [
                (#"{"day":"2026-11-21","ID":5}"#, nil), ("5", nil), (#"{"id":5}"#, nil),
                (#"{"id":"x","day":"2026-11-21"}"#, nil),
                (nil, nil),
            ],
            Self.pair,
            ["Id", "day"]
        )
        let (rows, reasons) = try read(batch)
        #expect(rows == [["true", "5", "2026-11-21"]])
        #expect(reasons.count == 4)
        #expect(reasons[0].contains("no JSON object with"))
        #expect(reasons[1].contains("day"))
        #expect(reasons[2].contains("does not fit"))
        #expect(reasons[3].contains("neither a value nor a key"))
    }

    @Test func aKeyThatIsMissingRejectsTheRecordAndChangesNoColumn() throws {
        let batch = try fill(
            [
                (nil, #"{"n":1}"#), (nil, #"{"id":null,"m":1}"#), (nil, "{}"), (nil, #"{"id":"a"}"#),
                (nil, #"{"id":null}"#),
            ],
            Self.id,
            ["id"]
        )
        #expect(batch.columns.map(\.name) == ["id"])
        let (rows, reasons) = try read(batch)
        #expect(rows == [["", "a"]])
        #expect(reasons.count == 4)
        #expect(reasons.allSatisfy { $0.contains("key column") })
    }

    @Test func keysThatAreNoColumnsAreRefused() throws {
        #expect(throws: RowBatchError.self) { try RowBatch(columns: Self.id, settings: settings(["other"])) }
    }

    @Test func aBatchCanBeFilledAgain() throws {
        let batch = try fill([("a", nil), (nil, #"{"id":"b","n":1}"#)], Self.id, ["id"])
        batch.removeAll()
        try batch.append(TablesFixture.batch([Array(#"{"id":"c"}"#.utf8)]), partition: 0)
        #expect(try read(batch).rows == [["", "c", ""]])
    }
}
