// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Glibc
import KafkaCodec
import Logging

/// Changes files while the process may open only so many more, and says what became of it.
///
/// Says `deleted <free> <is known> <has a folder>` of each attempt to delete a topic, and `stored <free> <worked>` of a commit behind a rewrite
/// of the coordinators' file.
struct DescriptorWork {
    private static let topic = "t"
    private static let freeMax = 4

    let log: LocalLog
    let directory: String

    init(directory: String) async throws {
        self.directory = directory
        log = try await LocalLog.open(
            directory: directory,
            logger: Logger(label: "crash") { _ in SwiftLogNoOpLogHandler() }
        )
    }

    func run() async throws {
        for free in 0...Self.freeMax {
            if log.topic(Self.topic) == nil {
                try await log.createTopic(Self.topic, partitions: 1, settings: TopicSettings())
            }
            let held = Self.leave(free)
            try? await log.deleteTopic(Self.topic)
            let hasFolder = access("\(directory)/log/topics/\(Self.topic)", F_OK) == 0
            say("deleted \(free) \(log.topic(Self.topic) != nil) \(hasFolder)")
            for descriptor in held { close(descriptor) }
        }
        let state = [UInt8](repeating: 7, count: 4 << 20)
        for free in 0...Self.freeMax {
            let held = Self.leave(free)
            var works = true
            for number in 0..<6 {
                do { try await log.storeGroupState("g\(free)", state + [UInt8(number)]) } catch { works = false }
            }
            say("stored \(free) \(works)")
            for descriptor in held { close(descriptor) }
        }
        await log.close()
    }

    /// Takes all descriptors but `free` that the process may have.
    private static func leave(_ free: Int) -> [Int32] {
        let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
        var limit = rlimit()
        getrlimit(resource, &limit)
        limit.rlim_cur = min(limit.rlim_max, 128)
        setrlimit(resource, &limit)
        var held: [Int32] = []
        while true {
            let descriptor = open("/dev/null", O_RDONLY | O_CLOEXEC)
            if descriptor < 0 { break }
            held.append(descriptor)
        }
        for _ in 0..<free { if let last = held.popLast() { close(last) } }
        return held
    }
}
