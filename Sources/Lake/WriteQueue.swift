// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import DuckDB
internal import MartletCore

/// The bounded queue in front of the writer's thread.
// SAFETY: every variable below is read and written with `condition` locked.
final class WriteQueue: @unchecked Sendable {
    private let condition = ThreadCondition()
    private var waiting: [(work: TableWriter.Work, rows: Int)] = []
    private var rowsWaiting = 0
    private var isCatalogStale = false
    private var isRunning = false
    private var isClosed = false
    private var hasEnded = false
    private var onEnd: (@Sendable () -> Void)?
    private var previousCount = 0
    private let configuration: LakeConfiguration

    /// What the writer takes at once.
    struct Batch {
        let work: [TableWriter.Work]
        let isCatalogStale: Bool
    }

    init(configuration: LakeConfiguration) {
        self.configuration = configuration
    }

    var isIdle: Bool { condition.withLock { waiting.isEmpty && !isRunning } }

    /// Adds work, or says why not.
    func append(_ work: TableWriter.Work, rows: Int) -> LakeError? {
        condition.withLock {
            if isClosed { return LakeError(.closed, "The tables are closed; the engine is stopping.") }
            let isFull =
                waiting.count >= configuration.transactionsWaitingMax
                || (rowsWaiting > 0 && rowsWaiting + rows > configuration.rowsWaitingMax)
            if isFull {
                return LakeError(
                    .busy,
                    "\(waiting.count) transactions with \(rowsWaiting) rows already wait to be committed; try again later."
                )
            }
            waiting.append((work, rows))
            rowsWaiting += rows
            condition.broadcast()
            return nil
        }
    }

    func markCatalogStale() {
        condition.withLock { isCatalogStale = true }
    }

    /// Waits for work and takes as much as one DuckDB transaction should hold; nil after closing.
    ///
    /// Committers that were just answered tend to come back at once: the writer waits a moment for as many as last time.
    func next() -> Batch? {
        condition.withLock {
            while waiting.isEmpty {
                if isClosed { return nil }
                condition.wait()
            }
            var patience = configuration.gatherNanoseconds / 500_000
            while waiting.count < previousCount, patience > 0, !isClosed {
                // Woken by each arrival; only time that passes without one counts.
                if !condition.wait(nanoseconds: 500_000) { patience -= 1 }
            }
            var count = 0
            var rows = 0
            while count < waiting.count, count == 0 || rows + waiting[count].rows <= configuration.groupRowsMax {
                rows += waiting[count].rows
                count += 1
            }
            let batch = Batch(work: waiting[..<count].map(\.work), isCatalogStale: isCatalogStale)
            isCatalogStale = false
            waiting.removeFirst(count)
            rowsWaiting -= rows
            previousCount = count
            isRunning = true
            return batch
        }
    }

    func finish() {
        condition.withLock { isRunning = false }
    }

    func close(_ onEnd: @escaping @Sendable () -> Void) {
        let isOver = condition.withLock {
            isClosed = true
            condition.broadcast()
            if !hasEnded { self.onEnd = onEnd }
            return hasEnded
        }
        if isOver { onEnd() }
    }

    /// Called by the thread as its last act.
    func ended() {
        let callback = condition.withLock {
            hasEnded = true
            defer { onEnd = nil }
            return onEnd
        }
        callback?()
    }
}
