// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import Foundation
package import Logging
package import MartletCore
internal import ServiceLifecycle
internal import Synchronization

/// All statements there are: takes them, runs them, hands out their rows and clears away what nobody wants any more.
///
/// Nothing is kept over a restart.
package final class StatementBoard: StatementServices {
    private let limits: StatementLimits
    private let open: Statement.Opening
    private let explain: Statement.Explaining
    private let logger: Logger
    private let statements = Mutex<[String: Statement]>([:])
    private let arrivals: AsyncStream<Statement>
    private let arrive: AsyncStream<Statement>.Continuation

    /// Makes a board on which nothing runs before ``run()``.
    ///
    /// - Parameters:
    ///   - limits: Bounds on the statements.
    ///   - open: Starts the query of a statement, by ``Lake/query(_:parameters:rowsMax:timeout:allowWrites:control:)`` with that control.
    ///   - explain: Turns an error into the services' own.
    ///   - logger: Told of statements nobody wanted any more.
    package init(
        limits: StatementLimits = StatementLimits(),
        open: @escaping @Sendable (StatementRequest, StatementControl) async throws -> QueryStream,
        explain: @escaping @Sendable (any Error) -> ServiceError,
        logger: Logger
    ) {
        self.limits = limits
        self.open = open
        self.explain = explain
        self.logger = logger
        (arrivals, arrive) = AsyncStream.makeStream(bufferingPolicy: .bufferingOldest(limits.openMax))
    }

    /// Runs the statements until the task is cancelled, which cancels them.
    package func run() async {
        await withDiscardingTaskGroup { group in
            group.addTask { await self.sweep() }
            for await statement in arrivals {
                group.addTask { await statement.run(self.open, self.explain) }
            }
            for statement in statements.withLock({ Array($0.values) }) {
                statement.cancel("The statement was cancelled because the engine stops.")
            }
            group.cancelAll()
        }
    }

    package func start(_ request: StatementRequest, by caller: Caller) async throws -> StatementStatus {
        guard caller.mayWrite || !request.write else {
            throw ServiceError(
                .forbidden,
                "write: this token may only read",
                fix: "leave write out for a query, or use the token with all rights"
            )
        }
        let statement = Statement(request, id: Self.makeID(), caller: caller.name, limits: limits)
        try statements.withLock { statements throws(ServiceError) in
            let open = statements.values.filter(\.isOpen)
            let own = open.count { $0.caller == caller.name }
            guard open.count < limits.openMax, own < limits.openPerCallerMax else {
                throw ServiceError(
                    .unavailable,
                    "\(open.count) statements are open, \(own) of them yours; \(limits.openPerCallerMax) of one caller and "
                        + "\(limits.openMax) in all may be",
                    fix: "read or cancel those that are not wanted: GET and DELETE /api/v1/statements"
                )
            }
            statements[statement.id] = statement
            Self.forgetOldest(&statements, keeping: limits.rememberedMax)
        }
        if case .enqueued = arrive.yield(statement) { return statement.status(isAsked: true) }
        statements.withLock { _ = $0.removeValue(forKey: statement.id) }
        throw ServiceError(.unavailable, "the engine takes no statements now", fix: "try again in a moment")
    }

    package func statements(by caller: Caller) async throws -> [StatementStatus] {
        let all = statements.withLock { Array($0.values) }
        return all.filter { caller.mayWrite || $0.caller == caller.name }
            .map { $0.status(isAsked: false) }
            .sorted { ($1.createdAt, $1.id) < ($0.createdAt, $0.id) }
    }

    package func statement(_ id: String, by caller: Caller) async throws -> StatementStatus {
        try find(id, caller).status(isAsked: true)
    }

    package func rows(_ id: String, _ query: StatementRowsQuery, by caller: Caller) async throws -> StatementPage? {
        try await find(id, caller).rows(query)
    }

    package func cancel(_ id: String, by caller: Caller) async throws {
        let statement = try find(id, caller)
        if statement.isActive {
            statement.cancel("The statement was cancelled.")
        } else {
            statements.withLock { _ = $0.removeValue(forKey: id) }
        }
    }

    // MARK: Private

    /// A statement of somebody else is not there for a caller who may only read.
    private func find(_ id: String, _ caller: Caller) throws -> Statement {
        guard let statement = statements.withLock({ $0[id] }), caller.mayWrite || statement.caller == caller.name else {
            throw ServiceError(
                .notFound,
                "no statement '\(id.prefix(100))'",
                fix:
                    "statements are forgotten \(limits.idle / .seconds(1)) seconds after they were last asked for; run it again"
            )
        }
        return statement
    }

    private static func makeID() -> String {
        var generator = SystemRandomNumberGenerator()
        return (0..<2).map { _ in
            let digits = String(generator.next(), radix: 16)
            return String(repeating: "0", count: 16 - digits.utf8.count) + digits
        }.joined()
    }

    private static func forgetOldest(_ statements: inout [String: Statement], keeping count: Int) {
        guard statements.count > count else { return }
        let now = ContinuousClock.now
        let ended = statements.values.filter { !$0.isOpen }.sorted { $0.idleTime(at: now) > $1.idleTime(at: now) }
        for statement in ended.prefix(statements.count - count) { statements[statement.id] = nil }
    }

    private func sweep() async {
        let pause = min(Duration.seconds(1), limits.idle / 4)
        while !Task.isCancelled {
            do { try await Task.sleep(for: pause) } catch { return }  // Cancelled: the loop is to end.
            let now = ContinuousClock.now
            for statement in statements.withLock({ Array($0.values) }) where statement.idleTime(at: now) > limits.idle {
                if !statement.isActive {
                    statements.withLock { _ = $0.removeValue(forKey: statement.id) }
                } else if !statement.outlivesItsCaller {
                    logger.info(
                        "a statement was cancelled because nobody asked for it",
                        metadata: ["id": "\(statement.id)"]
                    )
                    statement.cancel(
                        "The statement was cancelled because nobody asked for it for \(limits.idle / .seconds(1)) seconds."
                    )
                }
            }
        }
    }
}
