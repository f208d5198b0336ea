// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Glibc
import KafkaCodec
import Logging

// Appends to the log in a directory until it is killed, and says on standard output what was acknowledged:
// `record <partition> <offset> <value>` and `commit <partition> <offset>`, one line each, written at once.

let arguments = CommandLine.arguments
guard arguments.count >= 3, let round = Int(arguments[2]) else {
    print("usage: eventlog-crash-writer DIRECTORY ROUND [FILE-SIZE-LIMIT | transactions | compaction | descriptors]")
    exit(2)
}
if arguments.count > 3, arguments[3] == "transactions" {
    try await TransactionWork(directory: arguments[1], round: round).run()
    exit(0)
}
if arguments.count > 3, arguments[3] == "compaction" {
    try await CompactionWork(directory: arguments[1], round: round).run()
    exit(0)
}
if arguments.count > 3, arguments[3] == "descriptors" {
    try await DescriptorWork(directory: arguments[1]).run()
    exit(0)
}
if arguments.count > 3, let bytes = rlim_t(arguments[3]) {
    signal(SIGXFSZ, SIG_IGN)
    var limit = rlimit(rlim_cur: bytes, rlim_max: bytes)
    guard setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit) == 0 else { exit(3) }
}

@Sendable func say(_ line: String) {
    let bytes = Array((line + "\n").utf8)
    _ = bytes.withUnsafeBytes { Glibc.write(1, $0.baseAddress, $0.count) }
}

let topic = "crash"
let partitions: Int32 = 3
let log = try await LocalLog.open(
    directory: arguments[1],
    logger: Logger(label: "crash") { _ in SwiftLogNoOpLogHandler() }
)
if log.topic(topic) == nil {
    try await log.createTopic(
        topic,
        partitions: partitions,
        settings: TopicSettings(retentionMilliseconds: nil, segmentBytes: 64 << 10)
    )
}
say("ready")
let producer = RecordProducer(log: log)
await withTaskGroup(of: Void.self) { group in
    for worker in 0..<6 {
        group.addTask {
            var number = 0
            while true {
                let records = (0..<1 + number % 5).map { index in
                    let value = "\(round)/\(worker)/\(number + index)"
                    let padded = value + String(repeating: " ", count: (number * 37) % 900)
                    return Record(
                        timestamp: Int64(number),
                        key: Array("\(worker)-\(number % 7)".utf8),
                        value: Array(padded.utf8)
                    )
                }
                do {
                    let positions = try await producer.send(records, topic: topic)
                    for (index, position) in positions.enumerated() {
                        say("record \(position.partition) \(position.offset) \(round)/\(worker)/\(number + index)")
                    }
                    if number % 20 == 0, let position = positions.first {
                        let id = TopicPartition(topic: topic, partition: position.partition)
                        let committed = CommittedOffset(offset: position.offset, metadata: "\(round)", committedAt: 0)
                        try await log.commit(group: "g\(worker)", offsets: [id: committed])
                        say("commit g\(worker) \(position.partition) \(position.offset)")
                    }
                } catch {
                    say("failed \((error as? EventLogError)?.code.rawValue ?? "\(error)")")
                    if arguments.count > 3 { break }
                }
                number += records.count
            }
        }
    }
    group.addTask {
        while arguments.count <= 3 {
            await log.maintain()
            try? await Task.sleep(for: .milliseconds(20))
        }
    }
}
