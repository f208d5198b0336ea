// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import Logging
import MartletCore

/// Reads one partition for one input and hands its records on, one fetch at a time.
struct PartitionReader {
    private static let fetchBytesMax = 1 << 20
    /// What a fetch may become: a deployment holds on to records until they are done.
    private static let decompressedBytesMax = 8 << 20
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
                next = hand(on: result, from: next)
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

    /// Delivers what was read from `offset` on and returns where to read next.
    private func hand(on result: ReadResult, from offset: Int64) -> Int64 {
        var records = [RecordView]()
        var unreadable = [Int64: String]()
        var batches = RecordBatches(
            result.bytes,
            verifiesChecksums: false,
            decompressedBytesMax: Self.decompressedBytesMax
        )
        while true {
            do throws(RecordBatchError) {
                guard let record = try batches.nextRecord() else { break }
                if record.offset >= offset { records.append(record) }
            } catch {
                logger.error(
                    "a batch cannot be read",
                    metadata: ["partition": "\(partition)", "error": "\(error)"]
                )
                guard let lost = Self.lost(error, behind: max(offset, (records.last?.offset ?? -1) + 1)) else {
                    continue
                }
                unreadable[lost.record.offset] = lost.reason
                records.append(lost.record)
            }
        }
        let next = batches.pausedAt ?? result.nextOffset
        credit.set(open: false)
        deliver(
            .fetched(
                input: input,
                partition: partition.partition,
                records: records,
                next: next,
                unreadable: unreadable
            ),
            credit
        )
        return next
    }

    /// An empty record in place of those that cannot be read, and why they cannot; nil where none is lost.
    private static func lost(_ error: RecordBatchError, behind offset: Int64) -> (record: RecordView, reason: String)? {
        guard let base = error.baseOffset, let next = error.nextOffset, next > max(base, offset) else { return nil }
        let first = max(base, offset)
        let batch = RecordBatchEncoder.encode(
            [Record(timestamp: Timestamp.nowMicroseconds() / 1000, value: nil)],
            baseOffset: first
        )
        guard let record = try? RecordBatches.records(in: batch).first else { return nil }
        return (record, "records \(first) to \(next - 1) cannot be read: \(error.message)")
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
