// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
import Foundation
import Lake
import Logging
import MartletCore
import Testing

@Suite(.timeLimit(.minutes(5))) struct StatementBoardTests {
    private static let endless = "SELECT sum(a.range * b.range) FROM range(1000000000) a, range(1000000000) b"
    private let caller = Caller(name: "local")

    private func withBoard(
        _ change: (inout StatementLimits) -> Void = { _ in },
        _ body: (StatementBoard) async throws -> Void
    ) async throws {
        var limits = StatementLimits()
        change(&limits)
        let bounds = limits
        try await LakeFixture.with { lake in
            let board = StatementBoard(
                limits: bounds,
                open: { request, control in
                    try await lake.query(
                        request.sql,
                        timeout: request.timeout,
                        allowWrites: request.write,
                        control: control
                    )
                },
                explain: { error in
                    (error as? LakeError).map { ServiceError(.invalid, $0.message) }
                        ?? ServiceError(.internal, "\(error)")
                },
                logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
            )
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { await board.run() }
                defer { group.cancelAll() }
                try await body(board)
            }
        }
    }

    private func page(
        _ board: StatementBoard,
        _ id: String,
        _ cursor: String? = nil,
        size: Int = 1000,
        wait: Duration = .seconds(30)
    ) async throws -> StatementPage? {
        try await board.rows(
            id,
            StatementRowsQuery(cursor: cursor, pageSize: size, wait: wait, format: .json),
            by: caller
        )
    }

    @Test func pagesFollowEachOtherAndOnlyTheLastComesAgain() async throws {
        try await withBoard { board in
            let id = try await board.start(StatementRequest("FROM range(2500)"), by: caller).id
            let first = try #require(try await page(board, id))
            #expect(first.rowCount == 1000)
            #expect(try await page(board, id)?.rows == first.rows)
            let second = try #require(try await page(board, id, first.nextCursor))
            #expect(String(decoding: second.rows.prefix(14), as: UTF8.self) == "[[1000],[1001]")
            await #expect(throws: ServiceError.self) { _ = try await page(board, id) }
            let third = try #require(try await page(board, id, second.nextCursor))
            #expect(third.rowCount == 500)
            #expect(third.nextCursor == nil)
            let status = try await board.statement(id, by: caller)
            #expect(status.state == .finished)
            #expect(status.rowsRead == 2500)
        }
    }

    @Test func cancellingReleasesWhoWaits() async throws {
        try await withBoard { board in
            let id = try await board.start(StatementRequest(Self.endless), by: caller).id
            #expect(try await page(board, id, wait: .zero) == nil)
            async let waiting = page(board, id)
            try await board.cancel(id, by: caller)
            do {
                _ = try await waiting
                Issue.record("rows of a cancelled statement")
            } catch let error as ServiceError {
                #expect(error.code == .failedPrecondition)
            }
            #expect(try await board.statement(id, by: caller).state == .cancelled)
            try await board.cancel(id, by: caller)
            await #expect(throws: ServiceError.self) { _ = try await board.statement(id, by: caller) }
        }
    }

    @Test func aStatementNobodyAsksForIsCancelledAndForgotten() async throws {
        try await withBoard({ $0.idle = .milliseconds(200) }) { board in
            _ = try await board.start(StatementRequest(Self.endless), by: caller)
            while try await !board.statements(by: caller).isEmpty { try await Task.sleep(for: .milliseconds(20)) }
        }
    }

    @Test func thereAreOnlySoManyOfOneCaller() async throws {
        try await withBoard({ $0.openPerCallerMax = 2 }) { board in
            for _ in 0..<2 { _ = try await board.start(StatementRequest(Self.endless), by: caller) }
            await #expect(throws: ServiceError.self) {
                _ = try await board.start(StatementRequest("SELECT 1"), by: caller)
            }
            let other = Caller(name: "reader", mayWrite: false)
            let id = try await board.start(StatementRequest("SELECT 1"), by: other).id
            #expect(try await board.statements(by: other).map(\.id) == [id])
            #expect(try await board.statements(by: caller).count == 3)
            await #expect(throws: ServiceError.self) {
                _ = try await board.start(StatementRequest("DROP TABLE t", write: true), by: other)
            }
        }
    }

    @Test func aFaultHasItsPlace() async throws {
        try await withBoard { board in
            let long = "SELECT \(Array(repeating: "1", count: 200).joined(separator: ", ")), nowhere FROM range(1)"
            for (sql, line, column) in [("SELECT 1,\n  foo(2)", 2, 3), (long, 1, 7 + 600 + 1)] {
                let id = try await board.start(StatementRequest(sql), by: caller).id
                await #expect(throws: ServiceError.self) { _ = try await page(board, id) }
                let fault = try #require(try await board.statement(id, by: caller).error)
                #expect(fault.line == line)
                #expect(fault.column == column, "\(fault.message)")
            }
        }
    }

    @Test func whoMayWriteStillReachesNothingOutside() async throws {
        try await withBoard { board in
            for sql in [
                "ATTACH ':memory:' AS m", "COPY (SELECT 1) TO 'x.csv'", "SET threads = 1", "LOAD json", "CHECKPOINT",
            ] {
                let id = try await board.start(StatementRequest(sql, write: true), by: caller).id
                await #expect(throws: ServiceError.self, "\(sql)") { _ = try await page(board, id) }
            }
            let id = try await board.start(StatementRequest("CREATE TABLE t AS FROM range(3)", write: true), by: caller)
                .id
            #expect(try await page(board, id)?.columns == [])
            let update = try await board.start(
                StatementRequest("DELETE FROM t WHERE range > 0", write: true),
                by: caller
            ).id
            #expect(try await page(board, update)?.rowsChanged == 2)
        }
    }
}
