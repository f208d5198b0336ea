// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Logging

/// Reads one partition of a topic for a sink, one fetch ahead of it.
///
/// While the sink takes one fetch the next waits for it, so that a round finds something of every partition that has records.
struct PartitionFeed: Sendable {
    let log: any EventLog
    let partition: TopicPartition
    /// Partitions of the topic.
    private let count: Int32
    private let account: SinkMemory.Account
    private var memory: SinkMemory { account.memory }
    let mailbox: SinkMailbox
    let logger: Logger
    /// Told of records that could not be read and are in neither table nor rejects.
    let onGap: @Sendable (_ from: Int64, _ to: Int64, _ why: String) -> Void

    /// Reads one of `count` partitions for a table.
    init(
        _ services: SinkServices,
        table: String,
        partition: TopicPartition,
        of count: Int32,
        account: SinkMemory.Account,
        mailbox: SinkMailbox
    ) {
        let logger = services.logger
        log = services.log
        self.partition = partition
        self.count = count
        self.account = account
        self.mailbox = mailbox
        self.logger = logger
        onGap = { from, to, why in
            logger.error(
                "records could not be read and are missing from a table",
                metadata: [
                    "table": "\(table)", "partition": "\(partition.partition)", "offsets": "\(from)..<\(to)",
                    "why": "\(why)",
                ]
            )
        }
    }

    /// Reads from `offset` until cancelled.
    func run(from offset: Int64) async {
        var next = offset
        var waiting: [OneTimeGate] = []
        var isBehind = false
        defer { if isBehind { memory.note(feedsBehind: -1) } }
        while !Task.isCancelled {
            do {
                let bytesMax = memory.fetchMax(of: count)
                let result = try await log.read(partition, from: next, bytesMax: bytesMax, wait: .seconds(30))
                guard result.nextOffset > next else { continue }
                let fetched = Fetched(
                    partition: partition.partition,
                    bytes: result.bytes,
                    from: next,
                    next: result.nextOffset,
                    account: account
                )
                let taken = OneTimeGate()
                guard mailbox.post(.fetched(fetched, taken)) else { return }
                next = result.nextOffset
                waiting.append(taken)
                // A reader that keeps pace gathers what comes meanwhile instead.
                if isBehind != (fetched.bytes.count > bytesMax / 2) {
                    isBehind.toggle()
                    memory.note(feedsBehind: isBehind ? 1 : -1)
                }
                while waiting.count > (isBehind ? 1 : 0) { await waiting.removeFirst().pass() }
            } catch is CancellationError {
                return
            } catch {
                next = await position(after: error, at: next)
            }
        }
    }

    /// Where to go on: past damage, or at the start where retention was faster than the sink.
    private func position(after error: any Error, at offset: Int64) async -> Int64 {
        if let error = error as? EventLogError {
            if let readable = error.nextReadableOffset, readable > offset {
                onGap(offset, readable, error.message)
                return readable
            }
            if error.code == .offsetOutOfRange, let bounds = try? log.bounds(partition), offset < bounds.start {
                onGap(offset, bounds.start, "the topic's retention removed them before the table took them")
                return bounds.start
            }
        }
        logger.error("a table's topic cannot be read", metadata: ["partition": "\(partition)", "error": "\(error)"])
        try? await Task.sleep(for: .seconds(1))  // Cancelled: the loop ends.
        return offset
    }
}
