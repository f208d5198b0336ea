// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import DuckDB
import KafkaCodec
import MartletCore
import Tables
import Testing

@Suite struct RecordsEventTests {
    private static let trace = "4bf92f3577b34da6a3ce929d0e0e4736"

    private func fill(_ records: [Record], _ format: TableSpec.Format = .json) throws -> RowBatch {
        let batch = try RowBatch(columns: [], settings: TablesFixture.settings(format))
        try batch.append(TablesFixture.records(records), partition: 1)
        return batch
    }

    private var records: [Record] {
        [
            Record(
                timestamp: 5,
                key: Array("k".utf8),
                value: Array(#"{"a":1}"#.utf8),
                headers: [
                    RecordHeader(key: "ce_id", string: "1"),
                    RecordHeader(key: "ce_type", string: "click.made.by.somebody"),
                    RecordHeader(key: "ce_source", value: [0x61, 0xFF]), RecordHeader(key: "ce_subject", string: "s"),
                    RecordHeader(key: "traceparent", string: "00-\(Self.trace)-00f067aa0ba902b7-01"),
                    RecordHeader(key: "none", value: nil),
                ]
            ),
            Record(timestamp: .max, key: nil, value: Array(#"{"a":2}"#.utf8), headers: []),
            Record(
                timestamp: 6,
                key: Array("a key of more than twelve".utf8),
                value: nil,
                headers: [RecordHeader(key: "h", string: "v")]
            ),
            Record(
                timestamp: 7,
                key: nil,
                value: Array(
                    #"{"specversion":"1.0","id":"i","type":"t","source":"/s","traceparent":"00-\#(Self.trace)-00f067aa0ba902b7-01","data":{"a":3, "b":"x"}}"#
                        .utf8
                ),
                headers: [RecordHeader(key: "content-type", string: "application/cloudevents+json; charset=utf-8")]
            ),
            Record(
                timestamp: 8,
                key: nil,
                value: Array(#"{"id":"j","type":"t","source":"/s","data_base64":"eyJhIjo0fQ=="}"#.utf8),
                headers: [RecordHeader(key: "content-type", string: "application/cloudevents+json")]
            ),
            Record(
                timestamp: 9,
                key: nil,
                value: Array(#"{"id":"j"}"#.utf8),
                headers: [RecordHeader(key: "content-type", string: "application/cloudevents+json")]
            ),
        ]
    }

    @Test func readsHeadersAndEvents() throws {
        let batch = try fill(records)
        #expect(batch.rowCount == 4 && batch.rejectCount == 2 && batch.maxTimestamp == .max)
        let connection = try TablesFixture.memory()
        try TablesFixture.write(batch, to: connection)
        let rows = try connection.query(
            "SELECT a, b, _timestamp, _key, _id, _type, _source, _subject, _trace_id, len(_headers) FROM t ORDER BY _offset"
        ).rows()
        #expect(
            rows == [
                [
                    .int(1), .null, .timestamp(5_000), .blob(Array("k".utf8)), .string("1"),
                    .string("click.made.by.somebody"),
                    .string("a\u{FFFD}"), .string("s"), .string(Self.trace), .int(6),
                ],
                [.int(2), .null, .null, .null, .null, .null, .null, .null, .null, .int(0)],
                [
                    .int(3), .string("x"), .timestamp(7_000), .null, .string("i"), .string("t"), .string("/s"), .null,
                    .string(Self.trace), .int(1),
                ],
                [
                    .int(4), .null, .timestamp(8_000), .null, .string("j"), .string("t"), .string("/s"), .null, .null,
                    .int(1),
                ],
            ]
        )
        let headers = try connection.query(
            "SELECT _headers[5].key, _headers[6].key, _headers[6].value IS NULL FROM t WHERE _offset = 0"
        ).rows()
        #expect(headers == [[.string("traceparent"), .string("none"), .bool(true)]])
        let rejects = try connection.query(
            "SELECT _topic, _partition, _offset, key, value, len(headers), rejected_at FROM rejects ORDER BY _offset"
        ).rows()
        #expect(
            rejects == [
                [
                    .string("raw-clicks"), .int(1), .int(2), .blob(Array("a key of more than twelve".utf8)), .null,
                    .int(1), .timestamp(42),
                ],
                [
                    .string("raw-clicks"), .int(1), .int(5), .null, .blob(Array(#"{"id":"j"}"#.utf8)), .int(1),
                    .timestamp(42),
                ],
            ]
        )
    }

    @Test func rawTablesTakeEverything() throws {
        let batch = try fill(records, .raw)
        #expect(batch.rowCount == 6 && batch.rejectCount == 0)
        let rows = try TablesFixture.rows(
            batch,
            "SELECT _id, key, value, len(headers) FROM t WHERE _offset IN (2, 3)",
            format: .raw
        )
        #expect(rows[0] == [.null, .blob(Array("a key of more than twelve".utf8)), .null, .int(1)])
        #expect(rows[1][0] == .string("i") && rows[1][2] == records[3].value.map { .blob($0) })
    }

    @Test func headersKeepTheirRowsOverManyChunks() throws {
        let many = (0..<5_000).map { index in
            Record(
                timestamp: 1,
                key: nil,
                value: Array("{\"n\":\(index)}".utf8),
                headers: (0..<index % 4).map {
                    RecordHeader(key: "h", value: $0 == 1 ? nil : Array("\(index)-\($0)".utf8))
                }
            )
        }
        let rows = try TablesFixture.rows(
            fill(many),
            "SELECT count(*) FROM t WHERE len(_headers) = n % 4 AND _offset = n AND (n % 4 < 1 OR _headers[1].value = (n || '-0')::BLOB) "
                + "AND (n % 4 < 2 OR _headers[2].value IS NULL) AND (n % 4 < 3 OR _headers[3].value = (n || '-2')::BLOB)"
        )
        #expect(rows == [[.int(5_000)]])
    }

    @Test func damagedBatchesBecomeOneReject() throws {
        let good = TablesFixture.batch([Array("{}".utf8), Array("{}".utf8)], base: 10)
        var damaged = TablesFixture.batch([Array("{}".utf8), Array("{}".utf8)], base: 12)
        damaged[damaged.count - 2] ^= 1
        var compressed = TablesFixture.batch([Array("{}".utf8), Array("{}".utf8)], base: 14)
        compressed[22] = 4
        let batch = try RowBatch(columns: [], settings: TablesFixture.settings())
        try batch.append(good + damaged, from: 11, partition: 0)
        try batch.append(compressed + good.prefix(70), from: 14, partition: 0, verifiesChecksums: false)
        #expect(batch.rowCount == 1 && batch.nextOffset == 16)
        let reasons = try TablesFixture.reasons(batch)
        #expect(
            reasons == [
                "records 12 to 13 are lost to the table: the checksum does not match",
                "records 14 to 15 are lost to the table: they cannot be decompressed with zstd: no zstd frame",
            ]
        )
    }

    @Test func clearsForTheNextRecords() throws {
        let batch = try TablesFixture.fill([#"{"a":1,"b":"a text of more than twelve bytes"}"#, "no"])
        batch.removeAll()
        #expect(
            batch.rowCount == 0 && batch.rejectCount == 0 && batch.columns.count == 2 && batch.addedColumnCount == 0
        )
        try batch.append(TablesFixture.batch([Array(#"{"b":"x"}"#.utf8)]), partition: 0)
        #expect(try TablesFixture.rows(batch, "SELECT a, b FROM t") == [[.null, .string("x")]])
    }
}
