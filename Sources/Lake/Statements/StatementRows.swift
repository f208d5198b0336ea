// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import ArrowIPC
internal import DuckDB
internal import MartletCore

/// Rows that DuckDB has given and nobody has read, and the page that was read last; no I/O, no clock.
struct StatementRows {
    /// Some rows of a chunk.
    struct Slice {
        let chunk: DataChunk
        var rows: Range<Int>
        /// About how many bytes one row takes.
        let rowBytes: Int
    }

    /// Rows that were handed out together.
    struct Page {
        /// How many rows stand before it.
        let start: Int
        let slices: [Slice]
        /// Where the next page begins; nil on the last one.
        let next: Int?

        var rowCount: Int { slices.reduce(0) { $0 + $1.rows.count } }
    }

    /// How many rows were handed out.
    private(set) var position = 0
    private(set) var last: Page?
    private var waiting: [Slice] = []
    private var waitingRows = 0
    private var waitingBytes = 0
    private var hasEnded = false

    /// Whether rows wait to be read.
    var isEmpty: Bool { waitingRows == 0 }

    /// Takes rows from DuckDB.
    mutating func append(_ chunk: DataChunk, rowCount: Int) {
        guard rowCount > 0 else { return }
        let rowBytes = max(1, chunk.byteCount / max(1, chunk.rowCount))
        waiting.append(Slice(chunk: chunk, rows: 0..<rowCount, rowBytes: rowBytes))
        waitingRows += rowCount
        waitingBytes += rowBytes * rowCount
    }

    /// No more rows come.
    mutating func finish() { hasEnded = true }

    /// Drops what was not read.
    mutating func clear() {
        waiting = []
        waitingRows = 0
        waitingBytes = 0
        last = nil
        hasEnded = true
    }

    /// Whether more rows should be computed for a reader who takes `rows` at once.
    func wantsMore(rows: Int, bytes: Int) -> Bool { waitingRows <= rows && waitingBytes < bytes }

    /// The page that begins after `start` rows: the last one again, or the next one.
    ///
    /// The next one is nil until it is whole, or has any rows where `isHasty`.
    /// - Throws: `ServiceError` for a page that is neither.
    mutating func page(from start: Int, rows: Int, bytes: Int, isHasty: Bool) throws(ServiceError) -> Page? {
        if let last, last.start == start { return last }
        guard start == position else {
            throw ServiceError(
                .failedPrecondition,
                "cursor: the rows from \(start) on are not there; \(position) rows were read",
                fix: "only the last page can be read again; use the next cursor it gave, or run the statement again"
            )
        }
        let isWhole = hasEnded || waitingRows > rows || waitingBytes >= bytes
        guard isWhole || (isHasty && waitingRows > 0) else { return nil }
        let slices = take(rows: rows, bytes: bytes)
        position += slices.reduce(0) { $0 + $1.rows.count }
        let page = Page(start: start, slices: slices, next: hasEnded && waitingRows == 0 ? nil : position)
        last = page
        return page
    }

    private mutating func take(rows: Int, bytes: Int) -> [Slice] {
        var taken: [Slice] = []
        var rowsLeft = rows
        var bytesLeft = bytes
        var used = 0
        while used < waiting.count, rowsLeft > 0, bytesLeft > 0 {
            var slice = waiting[used]
            let count = min(slice.rows.count, rowsLeft)
            if count < slice.rows.count {
                waiting[used].rows = slice.rows.lowerBound + count..<slice.rows.upperBound
                slice.rows = slice.rows.lowerBound..<slice.rows.lowerBound + count
            } else {
                used += 1
            }
            taken.append(slice)
            rowsLeft -= count
            bytesLeft -= count * slice.rowBytes
            waitingRows -= count
            waitingBytes -= count * slice.rowBytes
        }
        waiting.removeFirst(used)
        return taken
    }
}

extension StatementRows.Page {
    /// The rows as a JSON list of lists, or as one Arrow IPC stream.
    func encoded(_ format: StatementRowFormat, columns: [ResultColumn]) throws(DuckDBError) -> [UInt8] {
        switch format {
        case .json:
            var bytes: [UInt8] = [0x5B]
            bytes.reserveCapacity(2 + slices.reduce(0) { $0 + $1.rows.count * $1.rowBytes })
            for slice in slices { try slice.chunk.appendJSON(slice.rows, to: &bytes) }
            bytes.append(0x5D)
            return bytes
        case .arrow:
            var stream = ArrowStream(schema: columns.map { $0.type.arrowField($0.name) })
            for slice in slices { stream.append(try slice.chunk.arrow(slice.rows), rowCount: slice.rows.count) }
            stream.finish()
            return stream.bytes
        }
    }
}
