// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import Documents
import Foundation
import MartletCore
import Tables
import Testing

struct TableDocumentTests {
    private static let taken = TableDocument.TakenNames(keyed: ["files"], following: ["Orders"])

    private func create(_ text: String) throws -> TableDocument {
        try TableDocument(try DocumentParser.parse(text), taken: Self.taken)
    }

    private func faults(_ text: String) throws -> [ServiceError.FieldError] {
        do {
            _ = try create(text)
            return []
        } catch let error as ServiceError {
            return error.fields
        }
    }

    private func table(_ spec: TableSpec) -> Resource<TableSpec> {
        Resource(
            metadata: ResourceMetadata(
                kind: .tables,
                id: 1,
                guid: "g",
                name: "trips",
                description: "",
                tags: [],
                owner: .init(name: "t"),
                createdAt: Date(timeIntervalSince1970: 0),
                updatedAt: Date(timeIntervalSince1970: 0)
            ),
            spec: spec
        )
    }

    private func update(
        _ text: String,
        of spec: TableSpec,
        columns: [AppendTableSchemaVersion.Column] = []
    ) throws -> TableSpec {
        var table = table(spec)
        try TableDocument.apply(try DocumentParser.parse(text), to: &table, columns: columns)
        return table.spec
    }

    private func updateFaults(
        _ text: String,
        of spec: TableSpec,
        columns: [AppendTableSchemaVersion.Column] = []
    ) throws -> [ServiceError.FieldError] {
        do {
            _ = try update(text, of: spec, columns: columns)
            return []
        } catch let error as ServiceError {
            return error.fields
        }
    }

    @Test func needsOnlyANameAndATopic() throws {
        let table = try create("{name: trips, topic: trips}")
        #expect(table.name == "trips")
        #expect(table.spec == TableSpec(topic: "trips"))
        #expect(try create("{name: t-1_X, topic: 'vast:dataengine:topics:internal/trips'}").spec.topic == "trips")
    }

    @Test func readsEverySetting() throws {
        let table = try create(
            """
            name: trips
            topic: trips
            description: Journeys
            tags: [city]
            format: JSON
            columns:
              - {name: id, type: integer}
              - {name: Fare, type: "decimal(18, 2)"}
              - {name: started, type: date}
            unknown_fields: reject
            partition_by: [Day, started]
            commit_every: 1m
            commit_size: 128MiB
            retention: 30d
            retention_size: 10GiB
            history: 12h
            start: latest
            """
        )
        #expect(table.description == "Journeys")
        #expect(table.tags == ["city"])
        #expect(
            table.spec
                == TableSpec(
                    topic: "trips",
                    columns: [
                        .init(name: "id", type: "BIGINT"), .init(name: "Fare", type: "DECIMAL(18,2)"),
                        .init(name: "started", type: "DATE"),
                    ],
                    unknownFields: .reject,
                    partitionBy: ["day", "started"],
                    commitSeconds: 60,
                    commitBytes: 128 << 20,
                    retentionMilliseconds: 30 * 86_400_000,
                    retentionBytes: 10 << 30,
                    historySeconds: 43_200,
                    start: .latest
                )
        )
    }

    @Test func readsKeyedTablesAndMappingsOfColumns() throws {
        let spec = try create("{name: p, topic: t, columns: {ID: text, n: int}, key: id, delete_when: op=gone}").spec
        #expect(spec.key == ["ID"])
        #expect(spec.partitionBy.isEmpty)
        #expect(spec.deleteRule == TableSpec.DeleteRule(field: "op", value: "gone"))
        let rule = try create("{name: p, topic: t, columns: {id: text}, key: [id], delete_rule: {field: op, value: x}}")
        #expect(rule.spec.deleteRule == TableSpec.DeleteRule(field: "op", value: "x"))
    }

    @Test func takesBackWhatGetPrints() throws {
        let spec = TableSpec(topic: "t", columns: [.init(name: "a", type: "BIGINT")], commitSeconds: 30)
        var description = TableDescription(
            table(spec),
            columns: [.init(name: "_offset", type: "BIGINT", isKey: false, isSystem: true)],
            rows: 3
        )
        description.state = .running
        description.lagSeconds = 0.5
        let text = String(decoding: try ResourceCoding.encoder().encode(description), as: UTF8.self)
        #expect(try update(text, of: spec) == spec)
        #expect(try create(text).spec == spec)
    }

    @Test func retentionCanBeWithoutLimit() throws {
        for word in ["forever", "none", "-1"] {
            let spec = try update(
                "{retention: \(word), retention_bytes: \(word)}",
                of: TableSpec(topic: "t", retentionMilliseconds: 60_000, retentionBytes: 1 << 30)
            )
            #expect(spec.retentionMilliseconds == nil)
            #expect(spec.retentionBytes == nil)
        }
        #expect(try create("{name: a, topic: t, retention_milliseconds: 90000}").spec.retentionMilliseconds == 90_000)
    }

    @Test(arguments: [
        "logs", "Engine_Events", "system", "trips__rejected", "trips__REJECTED", "1st", "_x", "a b", "a.b", "über",
        "''",
        String(repeating: "a", count: 101),
    ])
    func refusesNamesThatCannotBe(name: String) throws {
        let found = try faults("{name: \(name), topic: t}")
        #expect(found.map(\.field) == ["name"])
        #expect(found.first?.fix != nil)
    }

    @Test(arguments: [("files", "functions"), ("FILES", "case"), ("orders", "martlet tables update Orders")])
    func refusesNamesThatAreTaken(name: String, word: String) throws {
        let error = #expect(throws: ServiceError.self) { try create("{name: \(name), topic: t}") }
        #expect(error?.code == .alreadyExists)
        #expect(error?.description.contains(word) == true)
    }

    @Test(
        arguments: [
            ("topc: t", "topc", "write 'topic'"),
            ("columns: {a: VARCHR}", "columns.a", "write VARCHAR"),
            ("columns: {a: DECIMAL(40)}", "columns.a", "write DECIMAL(w,s)"),
            ("columns: {a: 'STRUCT(x INT)'}", "columns.a", "write JSON"),
            ("columns: [{name: a, type: INT}, {name: A, type: TEXT}]", "columns[1]", "keep one"),
            ("columns: {_Offset: BIGINT}", "columns._Offset", "leave it out"),
            ("columns: [{name: a, type: INT, typ: INT}]", "columns[0].typ", "write 'type'"),
            ("columns: 3", "columns", "write [{name"),
            ("key: id", "key", "declare it"),
            ("columns: {ident: TEXT}, key: idnt", "key", "write 'ident'"),
            ("columns: {id: JSON}, key: id", "key", "VARCHAR"),
            ("columns: {id: TEXT}, key: [id, ID]", "key", "once"),
            ("columns: {id: TEXT}, key: id, retention: 30d", "retention", "leave"),
            ("columns: {id: TEXT}, key: id, partition_by: day", "partition_by", "leave"),
            ("delete_rule: op=x", "delete_rule", "add 'key'"),
            ("delete_rule: op", "delete_rule", "op=delete"),
            ("partition_by: hours", "partition_by", "write 'hour'"),
            ("partition_by: [day, day]", "partition_by", "once"),
            ("columns: {f: DOUBLE}, partition_by: f", "partition_by", "few values"),
            ("columns: {at: TIMESTAMP}, partition_by: at", "partition_by", "hour or day"),
            ("columns: {day: DATE}", "partition_by", "another"),
            ("format: raw, columns: {a: INT}", "columns", "json"),
            ("format: raw, unknown_fields: add", "unknown_fields", "json"),
            ("format: jsn", "format", "json"),
            ("unknown_fields: rejct", "unknown_fields", "reject"),
            ("commit_seconds: 0", "commit_seconds", "1s to 24h"),
            ("commit_seconds: 25h", "commit_seconds", "1s to 24h"),
            ("commit_seconds: 1.5", "commit_seconds", "whole seconds"),
            ("commit_bytes: 1KiB", "commit_bytes", "64KiB"),
            ("commit_bytes: 2GiB", "commit_bytes", "1GiB"),
            ("retention: 5s", "retention", "1m"),
            ("retention: soon", "retention", "30d"),
            ("history: -1", "history", "1d"),
            ("start: now", "start", "earliest"),
        ] as [(String, String, String)]
    )
    func saysWhatIsWrongAndWhatToWrite(text: String, field: String, fix: String) throws {
        let head = text.hasPrefix("topc") ? "name: a, topic: x" : "name: a, topic: t"
        let found = try faults("{\(head), \(text)}")
        #expect(found.map(\.field) == [field])
        #expect(found.first?.fix?.contains(fix) == true, "\(found)")
    }

    @Test func saysEverythingThatIsWrongAtOnceWithItsLine() throws {
        let found = try faults(
            """
            name: logs
            format: xml
            columns:
              a: INT
              A: INT
            commit_seconds: 0
            """
        )
        #expect(Set(found.map(\.field)) == ["name", "topic", "format", "columns.A", "commit_seconds"])
        #expect(found.first { $0.field == "columns.A" }?.line == 5)
    }

    @Test func updateAddsAndWidensColumnsAndKeepsTheOthers() throws {
        let old = TableSpec(
            topic: "t",
            columns: [.init(name: "n", type: "BIGINT"), .init(name: "d", type: "DATE")],
            commitSeconds: 30,
            start: .latest
        )
        let new = try update("{columns: {N: DOUBLE, extra: text}, unknown_fields: ignore}", of: old)
        #expect(
            new.columns == [
                .init(name: "n", type: "DOUBLE"), .init(name: "d", type: "DATE"), .init(name: "extra", type: "VARCHAR"),
            ]
        )
        #expect(new.unknownFields == .ignore)
        #expect(new.commitSeconds == 30)
        #expect(new.start == .latest)
    }

    @Test func updateKeepsToWhatInferredColumnsHave() throws {
        let columns = [AppendTableSchemaVersion.Column(name: "price", type: "DOUBLE")]
        let found = try updateFaults("{columns: {price: BIGINT}}", of: TableSpec(topic: "t"), columns: columns)
        #expect(found.map(\.field) == ["columns.price"])
        let wider = try update("{columns: {price: VARCHAR}}", of: TableSpec(topic: "t"), columns: columns)
        #expect(wider.columns == [.init(name: "price", type: "VARCHAR")])
    }

    @Test(arguments: ["topic: other", "format: raw", "key: n", "partition_by: hour", "start: latest", "name: x"])
    func updateRefusesWhatCannotChangeAndSaysWhatToDo(text: String) throws {
        let spec = TableSpec(topic: "t", columns: [.init(name: "n", type: "BIGINT")])
        let found = try updateFaults("{\(text)}", of: spec)
        #expect(found.map(\.field) == [String(text.prefix { $0 != ":" })])
        #expect(found.first?.fix?.contains("another table") == true)
    }

    @Test func updateAcceptsWhatIsAsItWas() throws {
        let spec = TableSpec(topic: "t", columns: [.init(name: "n", type: "BIGINT")])
        let text = "{name: trips, topic: t, format: json, key: [], partition_by: [day], start: earliest}"
        #expect(try update(text, of: spec) == spec)
    }

    @Test(
        arguments: [
            ("BIGINT", "DOUBLE", true), ("BIGINT", "HUGEINT", true), ("BIGINT", "DECIMAL(21,2)", true),
            ("BIGINT", "DECIMAL(18,2)", false), ("DATE", "TIMESTAMP", true), ("TIMESTAMP", "DATE", false),
            ("DOUBLE", "BIGINT", false), ("BOOLEAN", "BIGINT", false), ("JSON", "VARCHAR", true),
            ("VARCHAR", "JSON", true), ("DECIMAL(10,2)", "DECIMAL(12,3)", true),
            ("DECIMAL(10,2)", "DECIMAL(10,3)", false), ("HUGEINT", "BIGINT", false), ("DATE", "DATE", true),
        ]
    )
    func typesOnlyWiden(from: String, to: String, isAllowed: Bool) throws {
        let old = try #require(ColumnTypeName(from))
        let new = try #require(ColumnTypeName(to))
        #expect(old.canWiden(to: new) == isAllowed)
        let spec = TableSpec(topic: "t", columns: [.init(name: "c", type: from)])
        #expect(try updateFaults("{columns: {c: '\(to)'}}", of: spec).isEmpty == isAllowed)
    }

    @Test func anEnginesOwnTableChangesOnlyHowLongRowsStay() throws {
        let spec = TableSpec(topic: "t", columns: [.init(name: "n", type: "BIGINT")], isInternal: true)
        #expect(try update("{retention: 30d, columns: {n: BIGINT}}", of: spec).retentionMilliseconds == 30 * 86_400_000)
        #expect(try updateFaults("{columns: {n: VARCHAR}}", of: spec).map(\.field) == ["columns"])
        #expect(try updateFaults("{unknown_fields: ignore}", of: spec).map(\.field) == ["unknown_fields"])
    }

    @Test func theTypeOfAKeyColumnStays() throws {
        let spec = TableSpec(topic: "t", columns: [.init(name: "id", type: "BIGINT")], key: ["id"], partitionBy: [])
        #expect(try updateFaults("{columns: {id: VARCHAR}}", of: spec).map(\.field) == ["columns.id"])
    }
}
