// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
import Lake
import Testing

/// A table whose name DuckDB asks for while it binds a statement.
private final class Meanwhile: QueryNames {
    private let onAsked: @Sendable () -> Void

    init(_ onAsked: @escaping @Sendable () -> Void) {
        self.onAsked = onAsked
    }

    func query(for name: String) throws -> String? {
        guard name == "meanwhile" else { return nil }
        onAsked()
        return "SELECT 1 AS a"
    }
}

@Suite(.timeLimit(.minutes(5))) struct ReservedNamesTests {
    private static let trips = FileTable(name: "trips", topic: "rides", rejects: "trips__rejected")
    private static let logs = FileTable(
        name: "system.logs",
        topic: "__system.logs",
        rejects: "system.logs__rejected",
        isInternal: true
    )

    /// Runs a statement as people do who may write.
    private static func write(_ sql: String, _ lake: Lake) async throws {
        for try await _ in try await lake.query(sql, allowWrites: true, control: StatementControl()) {}
    }

    private static func refusal(_ sql: String, _ lake: Lake) async -> LakeError? {
        do {
            try await write(sql, lake)
            return nil
        } catch {
            return error as? LakeError
        }
    }

    /// A lake with an append table `trips` and a table of the engine's own with one row.
    private static func with(_ body: (Lake) async throws -> Void) async throws {
        try await LakeFixture.with { lake in
            try await lake.transact(changesTables: true) {
                try $0.execute("CREATE TABLE martlet_positions (a INTEGER); INSERT INTO martlet_positions VALUES (1)")
            }
            try await write("CREATE TABLE own (a INTEGER)", lake)
            lake.setFileTables([trips, logs])
            try await body(lake)
        }
    }

    @Test(arguments: [
        "create table trips (a int)", "CREATE OR REPLACE TABLE Trips AS SELECT 1", "create view trips as select 1",
        "create or replace view \"TRIPS\" as select 1", "create table if not exists main.trips (a int)",
        "create table tables.main.trips (a int)", "/* a /* b */ c */ create -- x\n table trips (a int)",
        "alter table own rename to trips", "alter table own rename to \"Trips\"",
        "create table trips__rejected (a int)",
        "create view trips__rejected as select 1", "create temp table trips (a int)", "create schema system",
        "create schema if not exists \"System\"", "explain analyze create table trips as select 1",
    ])
    func namesOfAppendTablesCannotBeTaken(_ sql: String) async throws {
        try await Self.with { lake in
            let refusal = await Self.refusal(sql, lake)
            #expect(refusal?.code == .reserved, "\(sql): \(String(describing: refusal))")
            #expect(refusal?.fix?.isEmpty == false)
            let names = try await lake.tableNames()
            #expect(names == ["martlet_positions", "own"])
            #expect(
                try await lake.rows(
                    "SELECT count(*) FROM duckdb_schemas() WHERE lower(schema_name) = 'system' AND NOT internal"
                ) == [[.int(0)]]
            )
        }
    }

    @Test(arguments: [
        ("insert into trips values (1)", "topics publish rides"),
        ("INSERT OR REPLACE INTO main.trips SELECT 1", "topics publish rides"),
        ("with x as (select 1 as a) insert into trips from x", "topics publish rides"),
        ("update trips set a = 2", "tables delete trips"), ("delete from \"trips\" where true", "tables delete trips"),
        ("truncate trips", "tables delete trips"),
        ("merge into trips using own on (trips.a = own.a) when matched then delete", "tables delete trips"),
        ("drop table trips", "tables delete trips"), ("drop view if exists own2, trips", "tables delete trips"),
        ("alter table trips add column b int", "tables update trips"),
        ("copy trips from 'x.csv'", "topics publish rides"),
        ("delete from trips__rejected", "tables replay trips"), ("drop table trips__rejected", "tables replay trips"),
        ("insert into system.logs values (1)", "tables update system.logs"),
    ])
    func whatIsRefusedSaysWhatToUseInstead(_ sql: String, _ fix: String) async throws {
        try await Self.with { lake in
            let refusal = await Self.refusal(sql, lake)
            #expect(refusal?.code == .reserved, "\(sql): \(String(describing: refusal))")
            #expect(refusal?.message.contains("append table") == true, "\(String(describing: refusal))")
            #expect(refusal?.fix?.contains(fix) == true, "\(String(describing: refusal?.fix))")
        }
    }

    @Test(arguments: [
        "create table martlet_x (a int)", "create view martlet_v as select 1", "create table Martlet_X (a int)",
        "alter table own rename to martlet_x", "drop table martlet_positions",
        "drop table if exists \"MARTLET_positions\"",
        "alter table martlet_positions add column b int", "alter table martlet_positions rename to other",
        "insert into martlet_positions values (2)", "update main.martlet_positions set a = 2",
        "delete from martlet_positions",
        "truncate table martlet_positions", "copy martlet_positions from 'x.csv'",
        "create index i on martlet_positions (a)",
        "with x as (select 5 as a) update martlet_positions set a = x.a from x",
        "merge into martlet_positions as p using own on (p.a = own.a) when not matched then insert values (1)",
        "explain analyze delete from martlet_positions",
    ])
    func tablesOfTheEngineAreLeftAlone(_ sql: String) async throws {
        try await Self.with { lake in
            let refusal = await Self.refusal(sql, lake)
            #expect(refusal?.code == .reserved, "\(sql): \(String(describing: refusal))")
            let names = try await lake.tableNames()
            #expect(names == ["martlet_positions", "own"])
            #expect(try await lake.rows("FROM martlet_positions") == [[.int(1)]])
        }
    }

    @Test func severalStatementsInOneTextAreRefused() async throws {
        try await Self.with { lake in
            let refusal = await Self.refusal("select 1; drop table martlet_positions", lake)
            #expect(refusal != nil)
            let names = try await lake.tableNames()
            #expect(names == ["martlet_positions", "own"])
        }
    }

    @Test func otherNamesAreFree() async throws {
        try await Self.with { lake in
            for sql in [
                "create table trips2 (a int)", "insert into trips2 values (1)",
                "alter table trips2 add column trips int",
                "create schema s", "create table s.trips (a int)", "insert into s.trips values (1)",
                "drop table s.trips",
                "create table copy_of as select 'insert into trips' as a", "drop table copy_of",
                "create table logs (a int)",
                "update trips2 set a = 2", "create index i on trips2 (a)", "drop table logs",
            ] {
                let refusal = await Self.refusal(sql, lake)
                #expect(refusal == nil, "\(sql): \(String(describing: refusal))")
            }
        }
    }

    /// What the text does not show is found in the catalog before the commit: here the table comes to be while the statement runs.
    @Test func aNameTakenMeanwhileIsRefusedAtTheCommit() async throws {
        try await LakeFixture.with { lake in
            let names = Meanwhile { lake.setFileTables([Self.trips]) }
            do {
                let sql = "create table trips as from meanwhile"
                let stream = try await lake.query(sql, allowWrites: true, names: names, control: StatementControl())
                for try await _ in stream {}
                Issue.record("the name was taken")
            } catch let error as LakeError {
                #expect(error.code == .reserved && error.message.contains("would hide it"))
            }
            #expect(try await lake.tableNames() == [])
        }
    }

    @Test func aNameIsNotFreeWhileATransactionGivesItToATable() async throws {
        try await LakeFixture.with { lake in
            #expect(try await lake.isFree("trips"))
            let other = try await lake.database().connect()
            try other.execute("BEGIN; CREATE VIEW trips AS SELECT 1")
            #expect(try await !lake.isFree("Trips"))
            try other.execute("COMMIT")
            #expect(try await !lake.isFree("trips"))
            try other.execute("DROP VIEW trips")
            #expect(try await lake.isFree("trips"))
            #expect(try await lake.tableNames() == [])
        }
    }

    /// From before such names were refused.
    @Test func whatHidesAnAppendTableCanBeMovedOutOfTheWay() async throws {
        try await LakeFixture.with { lake in
            try await Self.write("create table trips (a int)", lake)
            lake.setFileTables([Self.trips])
            #expect(await Self.refusal("create table other (a int)", lake) == nil)
            #expect(await Self.refusal("alter table trips rename to moved", lake) == nil)
            #expect(await Self.refusal("drop table trips", lake)?.code == .reserved)
            #expect(try await lake.tableNames() == ["moved", "other"])
        }
    }

    @Test func functionsTakeNoNameOfTheEngine() async throws {
        try await LakeFixture.with { lake in
            let refusal = await lake.refusal(upsert("Martlet_x", key: "k", columns: "k", rows: "[1]"))
            #expect(refusal?.code == .reserved)
        }
    }
}
