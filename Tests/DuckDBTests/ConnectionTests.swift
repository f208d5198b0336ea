// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
import Foundation
import Testing

@Suite struct ConnectionTests {
    @Test func readsEveryCommonType() throws {
        let connection = try DuckDBFixture.memory()
        let cases: [(String, DuckDBValue)] = [
            ("NULL", .null), ("true", .bool(true)), ("(-128)::TINYINT", .int(-128)), ("(-300)::SMALLINT", .int(-300)),
            ("7::INTEGER", .int(7)), ("9223372036854775807::BIGINT", .int(.max)), ("255::UTINYINT", .int(255)),
            ("65535::USMALLINT", .int(65_535)), ("4294967295::UINTEGER", .int(4_294_967_295)),
            ("18446744073709551615::UBIGINT", .hugeint(18_446_744_073_709_551_615)),
            ("(-170141183460469231731687303715884105728)::HUGEINT", .hugeint(.min)),
            ("340282366920938463463374607431768211455::UHUGEINT", .uhugeint(.max)),
            ("1.5::FLOAT", .double(1.5)), ("0.1::DOUBLE", .double(0.1)), ("'inf'::DOUBLE", .double(.infinity)),
            ("12.30::DECIMAL(4,2)", .decimal(DecimalValue(unscaled: 1230, width: 4, scale: 2))),
            ("(-1234567.89)::DECIMAL(9,2)", .decimal(DecimalValue(unscaled: -123_456_789, width: 9, scale: 2))),
            ("1.5::DECIMAL(18,3)", .decimal(DecimalValue(unscaled: 1500, width: 18, scale: 3))),
            (
                "(-12345678901234567890.5)::DECIMAL(38,1)",
                .decimal(DecimalValue(unscaled: -123_456_789_012_345_678_905, width: 38, scale: 1))
            ),
            ("'é'", .string("é")),
            ("'a string longer than twelve bytes'", .string("a string longer than twelve bytes")),
            ("'\\x00\\xFF'::BLOB", .blob([0, 255])), ("DATE '1969-12-31'", .date(-1)),
            ("TIME '01:02:03.5'", .time(3_723_500_000)),
            ("TIMESTAMP '1970-01-01 00:00:01.000002'", .timestamp(1_000_002)),
            ("TIMESTAMP_S '1970-01-01 00:00:01'", .timestamp(1_000_000)),
            ("TIMESTAMP_MS '1970-01-01 00:00:01.5'", .timestamp(1_500_000)),
            ("TIMESTAMP_NS '1970-01-01 00:00:00.000000001'", .timestampNanoseconds(1)),
            ("TIMESTAMPTZ '1970-01-01 00:00:01+00'", .timestampTZ(1_000_000)),
            ("INTERVAL '1 month 2 days 3 seconds'", .interval(months: 1, days: 2, micros: 3_000_000)),
            (
                "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::UUID", .uuid("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
            ),
            ("'b'::ENUM('a','b')", .string("b")), ("'{\"a\": [1]}'::JSON", .json("{\"a\": [1]}")),
            ("[1,NULL,3]", .json("[1,null,3]")), ("[[1],[],NULL]", .json("[[1],[],null]")),
            ("[1.5,2.25]::DOUBLE[2]", .json("[1.5,2.25]")),
            ("{'a': 1, 'b': ['x\"y'], 'c': DATE '2026-04-08'}", .json(#"{"a":1,"b":["x\"y"],"c":"2026-04-08"}"#)),
            ("MAP {'k': 1, 'l': NULL}", .json(#"{"k":1,"l":null}"#)),
            ("{'d': 1.10::DECIMAL(4,2), 'h': 1::HUGEINT, 'n': 'nan'::DOUBLE}", .json(#"{"d":1.10,"h":1,"n":"NaN"}"#)),
        ]
        for (sql, expected) in cases {
            let rows = try connection.query("SELECT \(sql) AS v UNION ALL SELECT NULL").rows()
            #expect(rows.count == 2, "\(sql)")
            #expect(rows.contains([expected]), "\(sql): \(rows)")
            #expect(rows.contains([.null]))
        }
        let error = #expect(throws: DuckDBError.self) { try connection.query("SELECT '101'::BIT AS flags").rows() }
        #expect(error?.code == .unsupportedType)
        #expect(error?.message.contains("flags") == true)
    }

    @Test func bindsEveryParameterType() throws {
        let connection = try DuckDBFixture.memory()
        let values: [DuckDBValue] = [
            .null, .bool(false), .int(.min), .hugeint(1 << 100), .double(-0.5), .string("a'b\u{0}c"), .blob([1, 0, 2]),
            .date(20_000), .timestamp(1_775_662_891_591_955),
            .decimal(DecimalValue(unscaled: -1230, width: 10, scale: 2)),
        ]
        for value in values {
            let rows = try connection.query("SELECT ?", [value]).rows()
            #expect(rows == [[value]])
        }
        let statement = try connection.prepare("SELECT $b - $a")
        try statement.bind(named: [("a", .int(1)), ("b", .int(3))])
        #expect(try statement.execute().rows() == [[.int(2)]])
        #expect(throws: DuckDBError.self) { try statement.bind(named: [("c", .int(1))]) }
        #expect(throws: DuckDBError.self) { try connection.query("SELECT ?", []) }
    }

    @Test func errorsCarryTheirKind() throws {
        let connection = try DuckDBFixture.memory()
        try connection.execute("CREATE TABLE t(a BIGINT PRIMARY KEY)")
        let cases: [(String, DuckDBError.Code)] = [
            ("SELEC 1", .syntax), ("SELECT * FROM missing", .catalog), ("SELECT nosuch FROM t", .binding),
            ("SELECT 'x'::BIGINT", .conversion), ("INSERT INTO t VALUES (1),(1)", .constraint), ("", .invalidInput),
            ("SELECT 1; SELECT 2", .invalidInput), ("SELECT '\u{0}'", .syntax),
        ]
        for (sql, code) in cases {
            let error = #expect(throws: DuckDBError.self, "\(sql)") { try connection.query(sql).rows() }
            #expect(error?.code == code, "\(sql): \(error.debugDescription)")
        }
        #expect(try connection.query("SELECT count(*) FROM t").rows() == [[.int(0)]])
    }

    @Test func statementKindsAreTheParsersOwn() throws {
        let connection = try DuckDBFixture.memory()
        try connection.execute("CREATE TABLE t(a BIGINT)")
        let cases: [(String, StatementKind)] = [
            ("SELECT 1", .select), ("FROM t", .select), ("WITH x AS (SELECT 1) SELECT * FROM x", .select),
            ("SHOW TABLES", .select), ("DESCRIBE t", .select), ("EXPLAIN SELECT 1", .explain),
            ("INSERT INTO t VALUES (1)", .insert), ("DELETE FROM t", .delete), ("UPDATE t SET a = 1", .update),
            ("CREATE TABLE u(a INT)", .create), ("DROP TABLE t", .drop), ("COPY t TO '/dev/null'", .copy),
            ("SET threads = 1", .set), ("CHECKPOINT", .call), ("BEGIN", .transaction),
        ]
        for (sql, kind) in cases {
            let found = try connection.prepare(sql).kind
            #expect(found == kind, "\(sql)")
        }
    }

    @Test(.timeLimit(.minutes(5))) func interruptStopsARunningStatement() async throws {
        let thread = DatabaseThread(name: "test")
        defer { thread.stop() }
        let library = try DuckDBFixture.library()
        let control = AsyncStream.makeStream(of: ConnectionControl.self)
        async let outcome: DuckDBError.Code? = thread.run {
            let connection = try Database(library: library, path: nil, configuration: DatabaseConfiguration()).connect()
            control.continuation.yield(connection.control)
            do {
                _ = try connection.query("SELECT count(*) FROM range(100000000) a, range(100000000) b").rows()
                return nil
            } catch let error as DuckDBError {
                return error.code
            }
        }
        var iterator = control.stream.makeAsyncIterator()
        let running = try #require(await iterator.next())
        // An interrupt before the statement starts is lost, so it is repeated until the statement has ended.
        let repeater = Task {
            while !Task.isCancelled {
                running.interrupt()
                await Task.yield()
            }
        }
        #expect(try await outcome == .interrupted)
        repeater.cancel()
    }

    @Test func streamsWithoutHoldingTheWholeResult() throws {
        let connection = try DuckDBFixture.memory(DatabaseConfiguration(memoryBytesMax: 64 << 20, threads: 1))
        let statement = try connection.prepare("SELECT i, 'row ' || i AS name FROM range(5000000) t(i)")
        let result = try statement.executeStreaming()
        var sum: Int64 = 0
        for _ in 0..<10 {
            let chunk = try #require(try result.nextChunk())
            chunk.forEachInt64(column: 0) { _, value in sum += value ?? 0 }
        }
        #expect(sum > 0)
        #expect(result.columns.map(\.name) == ["i", "name"])
    }

    @Test func extensionsAreNeverLoadedByThemselves() throws {
        let connection = try DuckDBFixture.memory()
        #expect(throws: DuckDBError.self) {
            try connection.query("SELECT * FROM 'https://localhost:1/x.parquet'").rows()
        }
        let settings = try connection.query(
            "SELECT name, value FROM duckdb_settings() WHERE name LIKE 'auto%known%' ORDER BY name"
        ).rows()
        #expect(
            settings == [
                [.string("autoinstall_known_extensions"), .string("false")],
                [.string("autoload_known_extensions"), .string("false")],
            ]
        )
    }

    @Test func aFileIsKeptAndADamagedOneIsNamed() throws {
        try DuckDBFixture.withDirectory { directory in
            let library = try DuckDBFixture.library()
            let path = directory + "/quo\"te ü.duckdb"
            do {
                let connection = try Database(library: library, path: path, configuration: DatabaseConfiguration())
                    .connect()
                try connection.execute("CREATE TABLE t AS SELECT 1 AS a")
            }
            do {
                let connection = try Database(library: library, path: path, configuration: DatabaseConfiguration())
                    .connect()
                #expect(try connection.query("FROM t").rows() == [[.int(1)]])
            }
            let file = try FileHandle(forUpdating: URL(filePath: path))
            try file.write(contentsOf: Data(repeating: 0xAB, count: 12_288))
            try file.close()
            let error = #expect(throws: DuckDBError.self) {
                try Database(library: library, path: path, configuration: DatabaseConfiguration())
            }
            #expect(error?.code == .damaged, "\(error.debugDescription)")
            #expect(error?.message.contains(path) == true)
        }
    }

    @Test func twoDatabasesLiveInOneProcess() throws {
        try DuckDBFixture.withDirectory { directory in
            let library = try DuckDBFixture.library()
            let connections = try ["a", "b"].map {
                try Database(
                    library: library,
                    path: "\(directory)/\($0).duckdb",
                    configuration: DatabaseConfiguration()
                )
                .connect()
            }
            for (index, connection) in connections.enumerated() {
                try connection.execute("CREATE TABLE t AS SELECT \(index) AS a")
            }
            for (index, connection) in connections.enumerated() {
                #expect(try connection.query("FROM t").rows() == [[.int(Int64(index))]])
            }
        }
    }
}

@Suite struct ConfinementTests {
    @Test func filesOutsideTheDirectoriesAreRefused() throws {
        try DuckDBFixture.withDirectory { directory in
            let configuration = DatabaseConfiguration(
                temporaryDirectory: directory + "/tmp",
                fileDirectories: [directory + "/in"]
            )
            try FileManager.default.createDirectory(atPath: directory + "/in", withIntermediateDirectories: false)
            let database = try Database(
                library: DuckDBFixture.library(),
                path: directory + "/t.duckdb",
                configuration: configuration
            )
            let connection = try database.connect()
            try connection.execute("CREATE TABLE t AS SELECT 1 AS a; CHECKPOINT")
            try connection.execute("COPY t TO \(SQLText.literal(directory + "/in/t.parquet")) (FORMAT parquet)")
            #expect(try connection.query("FROM \(SQLText.literal(directory + "/in/t.parquet"))").rows() == [[.int(1)]])
            for sql in [
                "FROM read_csv('/etc/passwd')", "COPY t TO '\(directory)/out.csv'", "ATTACH '\(directory)/x.duckdb'",
                "SET enable_external_access = true", "SET memory_limit = '1TB'", "INSTALL httpfs", "LOAD httpfs",
            ] {
                #expect(throws: DuckDBError.self, "\(sql)") { try connection.query(sql).rows() }
            }
        }
    }
}
