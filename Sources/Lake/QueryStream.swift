// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import DuckDB
internal import MartletCore

/// Some rows of a query's result, column by column.
package struct QueryBatch: Sendable {
    /// The values: `columns[column][row]`.
    package let columns: [[DuckDBValue]]
    /// How many rows there are.
    package let rowCount: Int
    /// The rows as DuckDB gave them, in place of `columns`, for queries with a ``StatementControl``; it may have more rows.
    package var chunk: DataChunk?

    /// The values of one row.
    package func row(_ index: Int) -> [DuckDBValue] { columns.map { $0[index] } }
}

/// The result of a query, computed while it is read.
///
/// At most a few batches are computed ahead. Breaking off the loop, cancelling the task or dropping the stream stops the
/// query. It can be iterated once.
package final class QueryStream: AsyncSequence, Sendable {
    /// What one step of the loop gives.
    package typealias Element = QueryBatch

    /// The columns in order.
    package let columns: [ResultColumn]
    /// What the statement does.
    package let kind: StatementKind
    /// How many rows a writing statement changed.
    package let rowsChanged: Int
    /// False when the statement gives no rows.
    package let hasRows: Bool
    private let channel: QueryChannel

    init(_ head: QueryHead, channel: QueryChannel) {
        columns = head.columns
        kind = head.kind
        rowsChanged = head.rowsChanged
        hasRows = head.hasRows
        self.channel = channel
    }

    deinit {
        channel.cancel()
    }

    /// Stops the query; the loop over it ends with a cancellation error.
    package func cancel() {
        channel.cancel()
    }

    /// True when rows were left out because of the query's limit; known when the stream has ended.
    package var isTruncated: Bool { channel.isTruncated }

    /// All rows that are left.
    package func rows() async throws -> [[DuckDBValue]] {
        var rows: [[DuckDBValue]] = []
        for try await batch in self {
            for index in 0..<batch.rowCount { rows.append(batch.row(index)) }
        }
        return rows
    }

    /// Begins reading; once only.
    package func makeAsyncIterator() -> Iterator {
        Iterator(stream: self)
    }

    /// Reads the batches in order.
    package struct Iterator: AsyncIteratorProtocol {
        /// Keeps the query alive while it is read.
        private let stream: QueryStream

        init(stream: QueryStream) {
            self.stream = stream
        }

        /// The next rows, or nil at the end.
        package mutating func next() async throws -> QueryBatch? {
            try await stream.channel.next()
        }
    }
}

/// What is known of a result before its rows.
struct QueryHead: Sendable {
    let columns: [ResultColumn]
    let kind: StatementKind
    let rowsChanged: Int
    let hasRows: Bool
}

/// A bounded channel from the thread that runs a query to the task that reads it.
// SAFETY: every variable below is read and written with `condition` locked.
final class QueryChannel: @unchecked Sendable {
    private let condition = ThreadCondition()
    private var batches: [QueryBatch] = []
    private var waiter: CheckedContinuation<QueryBatch?, any Error>?
    private var end: Result<Void, any Error>?
    private var control: ConnectionControl?
    private var stop: LakeError?
    private var truncated = false
    private static let batchesMax = 4
    private var lastInstant: ContinuousClock.Instant
    /// Whether the time in which rows wait for their reader counts against the deadline.
    private let countsReading: Bool
    private var waitingSince: ContinuousClock.Instant?

    init(deadline: ContinuousClock.Instant, countsReading: Bool = true) {
        lastInstant = deadline
        self.countsReading = countsReading
    }

    /// When the query must end.
    var deadline: ContinuousClock.Instant {
        condition.withLock { lastInstant + (waitingSince.map { .now - $0 } ?? .zero) }
    }

    /// How far the query is.
    func progress() -> StatementProgress? {
        condition.withLock { control }?.progress()
    }

    var isTruncated: Bool { condition.withLock { truncated } }

    /// Why the query must stop, if it must.
    var stopReason: LakeError? { condition.withLock { stop } }

    /// Lets the channel interrupt the connection from now on, until nil is set.
    func attach(_ control: ConnectionControl?) {
        condition.withLock { self.control = control }
    }

    func markTruncated() {
        condition.withLock { truncated = true }
    }

    /// Hands over a batch, waiting while the reader is behind; false when nobody wants more.
    func send(_ batch: QueryBatch) -> Bool {
        var reader: CheckedContinuation<QueryBatch?, any Error>?
        let isWanted = condition.withLock {
            if !countsReading { waitingSince = .now }
            while batches.count >= Self.batchesMax, stop == nil { condition.wait() }
            if let since = waitingSince { lastInstant += .now - since }
            waitingSince = nil
            guard stop == nil else { return false }
            if waiter == nil { batches.append(batch) }
            reader = waiter
            waiter = nil
            return true
        }
        reader?.resume(returning: batch)
        return isWanted
    }

    /// Ends the stream, with an error or without.
    func finish(_ error: (any Error)?) {
        var reader: CheckedContinuation<QueryBatch?, any Error>?
        condition.withLock {
            control = nil
            if end == nil { end = error.map { .failure($0) } ?? .success(()) }
            reader = waiter
            waiter = nil
        }
        guard let reader else { return }
        if let error { reader.resume(throwing: error) } else { reader.resume(returning: nil) }
    }

    func next() async throws -> QueryBatch? {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let outcome = condition.withLock { () -> Result<QueryBatch?, any Error>? in
                    if !batches.isEmpty {
                        condition.broadcast()
                        return .success(batches.removeFirst())
                    }
                    if let end { return end.map { nil } }
                    precondition(waiter == nil, "QueryStream: two tasks read one stream")
                    waiter = continuation
                    return nil
                }
                if let outcome { continuation.resume(with: outcome) }
            }
        } onCancel: {
            cancel()
        }
    }

    /// Stops the query because nobody wants it.
    func cancel() {
        interrupt(LakeError(.cancelled, "The query was cancelled."))
    }

    /// Stops the query; may be called again and again until it has ended.
    func interrupt(_ reason: LakeError) {
        condition.withLock {
            if stop == nil { stop = reason }
            control?.interrupt()
            condition.broadcast()
        }
    }
}
