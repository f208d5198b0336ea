// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import Logging

/// Writes keyed records to a compacted topic, which is compacted all the time, until it is killed.
///
/// Says `record <partition> <offset> <key>` of what was acknowledged.
struct CompactionWork {
    static let topic = "compacted"
    static let partitions: Int32 = 2
    private static let workers = 4

    let log: LocalLog
    let round: Int

    init(directory: String, round: Int) async throws {
        let logger = Logger(label: "crash") { _ in SwiftLogNoOpLogHandler() }
        log = try await LocalLog.open(directory: directory, logger: logger)
        if log.topic(Self.topic) == nil {
            let settings = TopicSettings(
                retentionMilliseconds: nil,
                segmentBytes: 16 << 10,
                compaction: .init(dirtyRatio: 0)
            )
            try await log.createTopic(Self.topic, partitions: Self.partitions, settings: settings)
        }
        self.round = round
    }

    func run() async {
        say("ready")
        let producer = RecordProducer(log: log)
        await withTaskGroup(of: Void.self) { group in
            for worker in 0..<Self.workers {
                group.addTask {
                    var number = 0
                    while true {
                        await write(worker, number, producer)
                        number += 1
                    }
                }
            }
            group.addTask { while true { await log.compact() } }
            group.addTask { while true { await log.maintain() } }
        }
    }

    private func write(_ worker: Int, _ number: Int, _ producer: RecordProducer) async {
        // Some keys change all the time, others once in a while; every seventh record deletes one.
        let keys = (0..<1 + number % 4).map { "\(worker)-\(($0 + number) % (number % 5 == 0 ? 200 : 9))" }
        let records = keys.enumerated().map { index, key in
            let value = "\(round)/\(number)" + String(repeating: " ", count: (number * 37) % 700)
            return Record(
                timestamp: Int64(number),
                key: Array(key.utf8),
                value: (number + index) % 7 == 0 ? nil : Array(value.utf8)
            )
        }
        do {
            let positions = try await producer.send(records, topic: Self.topic)
            for (key, position) in zip(keys, positions) {
                say("record \(position.partition) \(position.offset) \(key)")
            }
        } catch {
            say("failed \(error)")
        }
    }
}
