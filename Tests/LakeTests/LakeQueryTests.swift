// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
import Foundation
import Lake
import Testing

@Suite(.timeLimit(.minutes(5))) struct LakeQueryTests {
    private static let endless = "SELECT count(*) FROM range(1000000000) a, range(1000000000) b"

    private func code(_ body: () async throws -> Void) async -> LakeError.Code? {
        do {
            try await body()
            return nil
        } catch {
            return (error as? LakeError)?.code
        }
    }

    @Test func onlyQueriesMayRunUnlessWritesAreAllowed() async throws {
        try await LakeFixture.with { lake in
            try await lake.commit(upsert("t", key: "k", columns: "k", rows: "[1]"))
            for sql in [
                "INSERT INTO t VALUES (2)", "DELETE FROM t", "UPDATE t SET k = 2", "DROP TABLE t",
                "CREATE TABLE u(a INT)",
                "COPY t TO '/tmp/x.csv'", "ATTACH ':memory:' AS m", "CHECKPOINT", "SET threads = 1", "BEGIN",
                "EXPLAIN ANALYZE INSERT INTO t VALUES (2)", "WITH x AS (INSERT INTO t VALUES (3) RETURNING k) FROM x",
                "SELECT 1; DELETE FROM t", "FROM read_csv('/etc/passwd')", "FROM '/etc/passwd'",
            ] {
                let refusal = await code { _ = try await lake.query(sql).rows() }
                // What reads a file is no write, so --write is no advice for it.
                let isRight =
                    sql.contains("read_csv")
                    ? refusal == .notAllowed : [.readOnly, .invalidSQL, .notAllowed].contains(refusal)
                #expect(isRight, "\(sql): \(String(describing: refusal))")
            }
            for sql in ["SHOW TABLES", "DESCRIBE t", "SUMMARIZE t", "EXPLAIN FROM t", "VALUES (1)", "FROM t"] {
                #expect(try await !lake.rows(sql).isEmpty, "\(sql)")
            }
            #expect(try await lake.rows("FROM t") == [[.int(1)]])
            let written = try await lake.query("INSERT INTO t VALUES (2)", allowWrites: true)
            #expect(written.rowsChanged == 1)
            _ = try await lake.query("CREATE TABLE made AS SELECT 1 AS a", allowWrites: true)
            let error = await lake.refusal(upsert("made", key: "a", columns: "a", rows: "[1]"))
            #expect(error?.code == .keyMismatch)
        }
    }

    @Test func parametersAreBound() async throws {
        try await LakeFixture.with { lake in
            let stream = try await lake.query("SELECT ? || 'b', ?", parameters: [.string("a'"), .int(2)])
            #expect(stream.columns.count == 2)
            #expect(try await stream.rows() == [[.string("a'b"), .int(2)]])
        }
    }

    @Test func rowsAreLimited() async throws {
        try await LakeFixture.with { lake in
            let stream = try await lake.query("FROM range(5000)", rowsMax: 3_000)
            #expect(try await stream.rows().count == 3_000)
            #expect(stream.isTruncated)
            let whole = try await lake.query("FROM range(5000)", rowsMax: 5_000)
            #expect(try await whole.rows().count == 5_000)
            #expect(!whole.isTruncated)
        }
    }

    @Test func breakingOffFreesTheReader() async throws {
        try await LakeFixture.with({ $0.queriesMax = 1 }) { lake in
            for _ in 0..<3 {
                for try await batch in try await lake.query("FROM range(100000000)") {
                    #expect(batch.rowCount > 0)
                    break
                }
            }
            #expect(try await lake.rows("SELECT 42") == [[.int(42)]])
        }
    }

    @Test func timeLimitsAndCancellationStopAQuery() async throws {
        try await LakeFixture.with { lake in
            #expect(
                await code { _ = try await lake.query(Self.endless, timeout: .milliseconds(100)).rows() } == .timeout
            )
            let task = Task { try await lake.query(Self.endless).rows() }
            task.cancel()
            let result = await task.result
            #expect(throws: LakeError.self) { try result.get() }
            #expect(await code { _ = try await lake.query("SELEC").rows() } == .invalidSQL)
        }
    }

    @Test func aLongQueryHoldsUpNobody() async throws {
        try await LakeFixture.with { lake in
            try await lake.commit(upsert("t", key: "k", columns: "k", rows: "[0]"))
            let long = try await lake.query("SELECT k, r FROM t, range(100000000) x(r)")
            var iterator = long.makeAsyncIterator()
            _ = try await iterator.next()
            for number in 1...20 { try await lake.commit(upsert("t", key: "k", columns: "k", rows: "[\(number)]")) }
            // DuckDB may have to put the checkpoint off until the query ends; it must not wait for it.
            let early = await code { try await lake.checkpoint() }
            #expect(early == nil || early == .busy)
            try await lake.commit(upsert("t", key: "k", columns: "k", rows: "[21]"))
            #expect(try await lake.rows("SELECT count(*) FROM t") == [[.int(22)]])
            let batch = try #require(try await iterator.next())
            #expect(batch.columns[0].allSatisfy { $0 == .int(0) })
            long.cancel()
            #expect(
                await code { while try await iterator.next() != nil {} } == .cancelled
            )
            try await lake.checkpoint()
            #expect(try FileManager.default.attributesOfItem(atPath: lake.configuration.databasePath)[.size] != nil)
        }
    }

    @Test func tablesAreDescribedDroppedAndKeptOverARestart() async throws {
        try await LakeFixture.withDirectory { directory in
            let first = LakeFixture.make(directory)
            try await first.commit(upsert("Files", key: "b,a", columns: "a,b,c", rows: #"[1,"x",{"$decimal":"1.5"}]"#))
            let before = try await first.table("files")
            await first.close()
            #expect(await code { _ = try await first.rows("SELECT 1") } == .closed)
            let second = LakeFixture.make(directory)
            let after = try await second.table("FILES")
            #expect(after == before)
            #expect(after.schema.key == ["b", "a"])
            #expect(after.schema.created != nil && after.schema.updated != nil)
            try await second.commit(upsert("files", key: "a,b", columns: "a,b", rows: #"[1,"x"]"#))
            #expect(try await second.table("files").rowCount == 1)
            try await second.dropTable("files")
            #expect(try await second.tables().isEmpty)
            #expect(await code { try await second.dropTable("files") } == .unknownTable)
            try await second.commit(upsert("files", key: "z", columns: "z", rows: "[1]"))
            #expect(try await second.table("files").schema.key == ["z"])
            await second.close()
        }
    }

    @Test(arguments: Lake.ExportFormat.allCases) func exportsReadBack(format: Lake.ExportFormat) async throws {
        try await LakeFixture.withDirectory { directory in
            let lake = LakeFixture.make(directory + "")
            try await lake.commit(upsert("t", key: "k", columns: "k,v", rows: #"[1,"é,\"x\""],[2,null]"#))
            let target = directory + "/it's.\(format.rawValue)"
            #expect(try await lake.export("t", format: format, to: target) == 2)
            let connection = try Database(
                library: DuckDBLibrary.load(
                    explicit: lake.configuration.libraryPath,
                    candidates: lake.configuration.libraryCandidates
                ),
                path: nil,
                configuration: DatabaseConfiguration()
            ).connect()
            let rows = try connection.query("FROM \(SQLText.literal(target)) ORDER BY k").rows()
            #expect(rows == [[.int(1), .string("é,\"x\"")], [.int(2), .null]])
            #expect(try FileManager.default.contentsOfDirectory(atPath: directory + "/exports").isEmpty)
            #expect(await code { _ = try await lake.export("none", format: format, to: target) } == .unknownTable)
            #expect(await code { _ = try await lake.export("t", format: format, to: "/nosuch/x") } == .unavailable)
            await lake.close()
        }
    }

    @Test func adamagedFileIsNamedAndLeftAlone() async throws {
        try await LakeFixture.withDirectory { directory in
            let first = LakeFixture.make(directory)
            try await first.commit(upsert("t", key: "k", columns: "k", rows: "[1]"))
            await first.close()
            let path = first.configuration.databasePath
            let garbage = Data(repeating: 0x5A, count: 8_192)
            let file = try FileHandle(forUpdating: URL(filePath: path))
            try file.write(contentsOf: garbage)
            try file.close()
            let second = LakeFixture.make(directory)
            let error = await second.refusal(upsert("t", key: "k", columns: "k", rows: "[1]"))
            #expect(error?.code == .damaged, "\(String(describing: error))")
            #expect(error?.message.contains(path) == true)
            #expect(try Data(contentsOf: URL(filePath: path)).prefix(8_192) == garbage)
            await second.close()
        }
    }

    @Test func runWritesCheckpointsAndClosesWhenCancelled() async throws {
        try await LakeFixture.with({ $0.idleCheckpointBytes = 1 }) { lake in
            try await lake.commit(upsert("t", key: "k", columns: "k", rows: "[1]"))
            let grown = try FileManager.default.attributesOfItem(atPath: lake.configuration.walPath)[.size] as? Int
            #expect((grown ?? 0) > 0)
            let service = Task { try await lake.run() }
            while let size = try? FileManager.default.attributesOfItem(atPath: lake.configuration.walPath)[.size]
                as? Int,
                size > 0
            {
                try await Task.sleep(for: .milliseconds(20))
            }
            service.cancel()
            try await service.value
            #expect(await code { _ = try await lake.rows("SELECT 1") } == .closed)
        }
    }

    @Test func aMissingLibraryIsExplained() async throws {
        try await LakeFixture.with({
            $0.libraryPath = "/nosuch/libduckdb.so"
        }) { lake in
            let error = await lake.refusal(upsert("t", key: "k", columns: "k", rows: "[1]"))
            #expect(error?.code == .unavailable)
            #expect(error?.message.contains("/nosuch/libduckdb.so") == true)
        }
    }

    @Test func aFullQueueRefusesInsteadOfGrowing() async throws {
        try await LakeFixture.with({ $0.transactionsWaitingMax = 1 }) { lake in
            try await lake.open()
            let codes = await withTaskGroup(of: LakeError.Code?.self) { group in
                for number in 0..<200 {
                    group.addTask { await lake.refusal(upsert("t", key: "k", columns: "k", rows: "[\(number)]"))?.code }
                }
                return await group.reduce(into: [LakeError.Code?]()) { $0.append($1) }
            }
            #expect(codes.allSatisfy { $0 == nil || $0 == .busy })
            let committed = codes.filter { $0 == nil }.count
            #expect(try await lake.rows("SELECT count(*) FROM t") == [[.int(Int64(committed))]])
        }
    }
}
