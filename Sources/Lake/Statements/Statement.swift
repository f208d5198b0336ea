// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import DuckDB
internal import Foundation
internal import MartletCore
internal import Synchronization

/// One statement from its arrival to its last page.
final class Statement: Sendable {
    /// Starts the query of a statement.
    typealias Opening = @Sendable (StatementRequest, StatementControl) async throws -> QueryStream
    /// Turns an error into the services' own.
    typealias Explaining = @Sendable (any Error) -> ServiceError

    private struct State {
        var status: StatementStatus
        var rows = StatementRows()
        var columns: [ResultColumn] = []
        var hasColumns = false
        var failure: ServiceError?
        var control: StatementControl?
        var startedAt: ContinuousClock.Instant?
        var touchedAt = ContinuousClock.now
        /// How many rows the reader takes at once.
        var pageSize = 0
        /// Counts changes, so that nobody waits for one that has happened.
        var version = 0
        var waiters: [Int: CheckedContinuation<Void, Never>] = [:]
        var lastWaiter = 0
        /// Requests that wait for rows, while which the statement is not idle.
        var readers = 0

        var hasEnded: Bool { [.finished, .failed, .cancelled].contains(status.state) }

        mutating func wake() -> [CheckedContinuation<Void, Never>] {
            version += 1
            defer { waiters = [:] }
            return Array(waiters.values)
        }
    }

    let id: String
    let caller: String
    private let request: StatementRequest
    private let limits: StatementLimits
    private let state: Mutex<State>

    init(_ request: StatementRequest, id: String, caller: String, limits: StatementLimits) {
        self.id = id
        self.caller = caller
        self.request = request
        self.limits = limits
        state = Mutex(
            State(
                status: StatementStatus(
                    id: id,
                    sql: String(request.sql.prefix(10_000)),
                    state: .queued,
                    write: request.write,
                    caller: caller,
                    createdAt: Date()
                )
            )
        )
    }

    // MARK: Running

    /// Runs it to the end of its rows, waiting while the reader is behind.
    func run(_ open: Opening, _ explain: Explaining) async {
        let control = StatementControl { [self] in markStarted() }
        let isWanted = state.withLock { state in
            state.control = control
            return !state.hasEnded
        }
        guard isWanted else { return }
        do {
            let stream = try await open(request, control)
            begin(stream)
            for try await batch in stream {
                if stream.hasRows, let chunk = batch.chunk { append(chunk, batch.rowCount) }
                await waitForRoom()
            }
            change { state in
                guard !state.hasEnded else { return }
                state.rows.finish()
                state.status.state = .finished
                state.status.finishedAt = Date()
                state.status.progress = Self.done(state.status.progress)
            }
        } catch {
            fail(explain(error))
        }
    }

    private func markStarted() {
        change { state in
            guard state.status.state == .queued else { return }
            state.status.state = .running
            state.status.startedAt = Date()
            state.startedAt = .now
        }
    }

    private func begin(_ stream: QueryStream) {
        let changing: Set<StatementKind> = [.insert, .update, .delete, .mergeInto]
        change { state in
            state.hasColumns = true
            state.columns = stream.hasRows ? stream.columns : []
            state.status.columns = state.columns.map { .init(name: $0.name, type: $0.type.description) }
            if !stream.hasRows, changing.contains(stream.kind) { state.status.rowsChanged = Int64(stream.rowsChanged) }
        }
    }

    private func append(_ chunk: DataChunk, _ rowCount: Int) {
        change { state in
            if !state.hasEnded { state.rows.append(chunk, rowCount: rowCount) }
        }
    }

    private func waitForRoom() async {
        while true {
            let version: Int? = state.withLock { state in
                let rows = max(limits.rowsAhead, 2 * state.pageSize)
                let isWanted = state.hasEnded || state.rows.wantsMore(rows: rows, bytes: limits.pageBytes)
                return isWanted ? nil : state.version
            }
            guard let version, !Task.isCancelled else { return }
            await changed(since: version)
        }
    }

    private func fail(_ error: ServiceError) {
        change { state in
            guard !state.hasEnded else { return }
            let position = FaultPosition(message: error.message, sql: request.sql)
            state.failure = error
            state.rows.clear()
            state.status.state = .failed
            state.status.finishedAt = Date()
            state.status.error = StatementStatus.Fault(
                code: error.code.rawValue,
                message: error.message,
                fix: error.fix,
                line: position?.line,
                column: position?.column
            )
        }
    }

    /// Stops it, with the reason its reader gets; nothing happens when it has ended.
    func cancel(_ reason: String) {
        let control = change { state -> StatementControl? in
            guard !state.hasEnded else { return nil }
            state.failure = ServiceError(.failedPrecondition, reason, fix: "run the statement again")
            state.rows.clear()
            state.status.state = .cancelled
            state.status.finishedAt = Date()
            state.status.error = .init(code: ServiceError.Code.failedPrecondition.rawValue, message: reason)
            return state.control
        }
        control?.cancel()
    }

    // MARK: Looking

    /// What is known of it now.
    func status(isAsked: Bool) -> StatementStatus {
        state.withLock { state in
            if isAsked { state.touchedAt = .now }
            var status = state.status
            status.rowsRead = Int64(state.rows.position)
            if status.state == .running, let progress = state.control?.progress() {
                status.progress = Self.progress(progress, since: state.startedAt)
                // What was last known stays when the statement ends.
                state.status.progress = status.progress
            }
            return status
        }
    }

    private static func progress(
        _ progress: StatementProgress,
        since start: ContinuousClock.Instant?
    ) -> StatementStatus.Progress {
        let elapsed = start.map { (ContinuousClock.now - $0) / .seconds(1) } ?? 0
        // The first hundredth says little about the rest.
        let isKnown = progress.fraction > 0.01 && elapsed > 0.2
        return StatementStatus.Progress(
            fraction: progress.fraction,
            rowsProcessed: progress.rowsProcessed,
            rowsTotal: progress.rowsTotal,
            secondsLeft: isKnown ? elapsed / progress.fraction * (1 - progress.fraction) : nil
        )
    }

    private static func done(_ progress: StatementStatus.Progress) -> StatementStatus.Progress {
        StatementStatus.Progress(
            fraction: 1,
            rowsProcessed: max(progress.rowsProcessed, progress.rowsTotal),
            rowsTotal: progress.rowsTotal,
            secondsLeft: 0
        )
    }

    /// Whether it works or holds rows that nobody has read.
    var isOpen: Bool { state.withLock { !$0.hasEnded || !$0.rows.isEmpty } }

    /// Whether it works.
    var isActive: Bool { state.withLock { !$0.hasEnded } }

    /// How long nobody has asked for it; zero while somebody waits for its rows.
    func idleTime(at now: ContinuousClock.Instant) -> Duration {
        state.withLock { $0.readers > 0 ? .zero : now - $0.touchedAt }
    }

    /// Whether it is to go on though nobody asks for it: a change that somebody ordered.
    var outlivesItsCaller: Bool { request.write }

    // MARK: Reading

    /// A page, or nil when there is none within the wait.
    func rows(_ query: StatementRowsQuery) async throws -> StatementPage? {
        let start = try Self.position(query.cursor)
        let deadline = ContinuousClock.now + query.wait
        state.withLock { state in
            state.readers += 1
            state.touchedAt = .now
        }
        defer {
            state.withLock { state in
                state.readers -= 1
                state.touchedAt = .now
            }
        }
        while true {
            let isLast = ContinuousClock.now >= deadline || Task.isCancelled
            switch try next(start, query, isHasty: isLast) {
            case .page(let page, let columns, let rowsChanged):
                let rows: [UInt8]
                do { rows = try page.encoded(query.format, columns: columns) } catch {
                    throw ServiceError(.invalid, error.message, fix: "cast the column in the statement")
                }
                return StatementPage(
                    columns: columns.map { .init(name: $0.name, type: $0.type.description) },
                    rows: rows,
                    rowCount: page.rowCount,
                    nextCursor: page.next.map(String.init),
                    rowsChanged: rowsChanged
                )
            case .none(let version):
                if isLast { return nil }
                await changed(since: version, until: deadline)
            }
        }
    }

    private enum Next {
        case page(StatementRows.Page, [ResultColumn], rowsChanged: Int64?)
        case none(version: Int)
    }

    private func next(_ start: Int, _ query: StatementRowsQuery, isHasty: Bool) throws -> Next {
        let (result, waiters) = state.withLock {
            state -> (Result<Next, ServiceError>, [CheckedContinuation<Void, Never>]) in
            if let failure = state.failure { return (.failure(failure), []) }
            guard state.hasColumns else { return (.success(.none(version: state.version)), []) }
            let before = state.pageSize
            state.pageSize = max(before, query.pageSize)
            do throws(ServiceError) {
                let page = try state.rows.page(
                    from: start,
                    rows: query.pageSize,
                    bytes: limits.pageBytes,
                    isHasty: isHasty
                )
                // There is room for more rows now, or more are wanted than before.
                let waiters = page != nil || state.pageSize > before ? state.wake() : []
                guard let page else { return (.success(.none(version: state.version)), waiters) }
                return (.success(.page(page, state.columns, rowsChanged: state.status.rowsChanged)), waiters)
            } catch {
                return (.failure(error), [])
            }
        }
        for waiter in waiters { waiter.resume() }
        return try result.get()
    }

    private static func position(_ cursor: String?) throws -> Int {
        guard let cursor else { return 0 }
        guard let position = Int(cursor), position >= 0 else {
            throw ServiceError.invalid(
                field: "cursor",
                "'\(cursor.prefix(60))' is no cursor of a statement",
                fix: "use the next cursor of the page before"
            )
        }
        return position
    }

    // MARK: Waiting

    @discardableResult private func change<R: Sendable>(_ body: (inout State) -> R) -> R {
        let (result, waiters) = state.withLock { state in
            let result = body(&state)
            return (result, state.wake())
        }
        for waiter in waiters { waiter.resume() }
        return result
    }

    /// Returns when anything has changed since `version`, or when the task is cancelled.
    private func changed(since version: Int) async {
        let number = state.withLock { state in
            state.lastWaiter += 1
            return state.lastWaiter
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isLate = state.withLock { state in
                    guard state.version == version, !Task.isCancelled else { return true }
                    state.waiters[number] = continuation
                    return false
                }
                if isLate { continuation.resume() }
            }
        } onCancel: {
            state.withLock { $0.waiters.removeValue(forKey: number) }?.resume()
        }
    }

    private func changed(since version: Int, until deadline: ContinuousClock.Instant) async {
        await withTaskGroup(of: Void.self) { group in
            // Cancelled: it is over either way.
            group.addTask { try? await Task.sleep(until: deadline, clock: .continuous) }
            group.addTask { await self.changed(since: version) }
            await group.next()
            group.cancelAll()
        }
    }
}
