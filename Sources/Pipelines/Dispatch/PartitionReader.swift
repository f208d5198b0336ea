// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import Logging

/// Reads one partition for one input and hands its records on, one fetch at a time.
struct PartitionReader {
    private static let fetchBytesMax = 1 << 20
    private static let waitMax = Duration.seconds(30)

    let log: any EventLog
    let input: Int
    let partition: TopicPartition
    /// Open while the deployment has room.
    let gate: Gate
    /// Open once the last fetch was taken.
    let credit = Gate()
    let logger: Logger
    let deliver: @Sendable (DispatchInput, Gate) -> Void

    /// Reads from `offset` until cancelled.
    func run(from offset: Int64) async {
        var next = offset
        while !Task.isCancelled {
            await credit.pass()
            await gate.pass()
            if Task.isCancelled { return }
            do {
                let result = try await log.read(partition, from: next, bytesMax: Self.fetchBytesMax, wait: Self.waitMax)
                guard result.nextOffset > next else { continue }
                hand(on: result, from: next)
                next = result.nextOffset
            } catch is CancellationError {
                return
            } catch let error as EventLogError {
                next = await position(after: error, at: next)
            } catch {
                logger.error("reading a topic failed", metadata: ["partition": "\(partition)", "error": "\(error)"])
                try? await Task.sleep(for: .seconds(1))
            }
        }
    }

    private func hand(on result: ReadResult, from offset: Int64) {
        var records = [RecordView]()
        var batches = RecordBatches(result.bytes, verifiesChecksums: false)
        var isOver = false
        while !isOver {
            do {
                guard let record = try batches.nextRecord() else { break }
                if record.offset >= offset { records.append(record) }
            } catch {
                logger.error(
                    "a batch cannot be read and is passed over",
                    metadata: ["partition": "\(partition)", "error": "\(error)"]
                )
                isOver = true
            }
        }
        credit.set(open: false)
        deliver(
            .fetched(input: input, partition: partition.partition, records: records, next: result.nextOffset),
            credit
        )
    }

    /// Where to go on after an error: past damage, or at the start where retention has removed what was next.
    private func position(after error: EventLogError, at offset: Int64) async -> Int64 {
        logger.error("reading a topic failed", metadata: ["partition": "\(partition)", "error": "\(error)"])
        if let readable = error.nextReadableOffset, readable > offset { return readable }
        if error.code == .offsetOutOfRange, let bounds = try? log.bounds(partition) {
            if offset < bounds.start { return bounds.start }
            if offset > bounds.end { return bounds.end }
        }
        try? await Task.sleep(for: .seconds(1))
        return offset
    }
}
