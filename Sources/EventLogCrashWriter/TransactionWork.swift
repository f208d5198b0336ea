// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import Logging
import Transactions

/// Runs transactions over all partitions until it is killed.
///
/// Says `ending <worker> <number> commit|abort` before and `ended …` after each one, and `record <partition> <offset>
/// <value>` for records of a producer that sends each batch twice.
struct TransactionWork {
    static let topic = "crash"
    static let partitions: Int32 = 3
    private static let workers = 4

    let log: LocalLog
    let coordinator: TransactionCoordinator
    let round: Int

    init(directory: String, round: Int) async throws {
        let logger = Logger(label: "crash") { _ in SwiftLogNoOpLogHandler() }
        log = try await LocalLog.open(directory: directory, logger: logger)
        if log.topic(Self.topic) == nil {
            let settings = TopicSettings(retentionMilliseconds: nil, segmentBytes: 64 << 10)
            try await log.createTopic(Self.topic, partitions: Self.partitions, settings: settings)
        }
        coordinator = TransactionCoordinator(log: log, logger: logger)
        try await coordinator.recover()
        self.round = round
    }

    func run() async {
        say("ready")
        await withTaskGroup(of: Void.self) { group in
            for worker in 0..<Self.workers {
                group.addTask { await answered { try await transact(worker) } }
            }
            group.addTask { await answered { try await sendTwice() } }
            group.addTask {
                while true {
                    await log.maintain()
                    await coordinator.tick()
                    try? await Task.sleep(for: .milliseconds(20))
                }
            }
        }
    }

    private func answered(_ work: () async throws -> Void) async {
        do {
            try await work()
        } catch {
            say("failed \(error)")
        }
    }

    private func transact(_ worker: Int) async throws {
        let id = "worker-\(worker)"
        let raisesEpoch = worker % 2 == 0
        var producer = try await coordinator.initProducerID(transactionalID: id, timeoutMilliseconds: 60_000)
        var sequences = [Int32](repeating: 0, count: Int(Self.partitions))
        var number = 0
        while true {
            let commit = (number + worker) % 3 != 0
            let all = (0..<Self.partitions).map { TopicPartition(topic: Self.topic, partition: $0) }
            try await coordinator.addPartitions(transactionalID: id, producer: producer, partitions: all)
            for (index, partition) in all.enumerated() {
                let count = 1 + number % 3
                let values = (0..<count).map { "\(round)/\(worker)/\(number)/\($0)" }
                let bytes = batch(values, producer, sequence: sequences[index], isTransactional: true)
                _ = try await log.append(bytes, to: partition)
                sequences[index] += Int32(count)
            }
            try await coordinator.addOffsets(transactionalID: id, producer: producer, group: "g\(worker)")
            try await coordinator.commitOffsets(
                transactionalID: id,
                producer: producer,
                group: "g\(worker)",
                offsets: [all[0]: CommittedOffset(offset: Int64(round) << 32 + Int64(number), committedAt: 0)]
            )
            let outcome = "\(worker) \(number) \(commit ? "commit" : "abort")"
            say("ending \(outcome)")
            producer = try await coordinator.end(
                transactionalID: id,
                producer: producer,
                commit: commit,
                raisesEpoch: raisesEpoch
            )
            say("ended \(outcome)")
            if raisesEpoch { sequences = sequences.map { _ in 0 } }
            number += 1
        }
    }

    private func sendTwice() async throws {
        let producer = try await coordinator.initProducerID(transactionalID: nil, timeoutMilliseconds: 0)
        var sequence: Int32 = 0
        while true {
            let partition = TopicPartition(topic: Self.topic, partition: 0)
            let value = "\(round)/plain/\(sequence)"
            let bytes = batch([value], producer, sequence: sequence, isTransactional: false)
            async let first = log.append(bytes, to: partition)
            async let second = log.append(bytes, to: partition)
            let offsets = [try await first.baseOffset, try await second.baseOffset]
            guard offsets[0] == offsets[1] else { return say("failed offsets \(offsets) for one batch") }
            say("record 0 \(offsets[0]) \(value)")
            sequence += 1
        }
    }

    private func batch(
        _ values: [String],
        _ producer: ProducerIdentity,
        sequence: Int32,
        isTransactional: Bool
    ) -> [UInt8] {
        RecordBatchEncoder.encode(
            values.map { Record(timestamp: 0, value: Array($0.utf8)) },
            producerID: producer.id,
            producerEpoch: producer.epoch,
            baseSequence: sequence,
            isTransactional: isTransactional
        )
    }
}
