// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Broker
import EventLog
import FoundationEssentials
import Groups
import KafkaCodec
import Logging
import MartletCore
import Synchronization
import Testing

/// Subscriptions over a real log.
@Suite(.timeLimit(.minutes(3)))
struct SubscriptionHubTests {
    private static let memoryMax = 4 << 20
    /// A batch of 1 MiB once it is decompressed, and there are as many decoded at once as there are processors at the most.
    private static let recordsPerBatch = 16
    private static let batchBytes = 1 << 20

    /// Keeps what it is given until it is taken.
    private final class Sink: DeliverySink {
        struct Place: Hashable, Sendable {
            var partition: Int32
            var offset: Int64
        }

        private struct State {
            var waiting: [(place: Place, id: UInt64)] = []
            var seen: [Place: Int] = [:]
            var failure: ServiceError?
        }

        private let state = Mutex(State())
        private let bell = Bell()

        func add(_ record: RecordView, of partition: TopicPartition, id: UInt64, attempt: UInt32) {
            let place = Place(partition: partition.partition, offset: record.offset)
            state.withLock { $0.waiting.append((place, id)) }
        }

        func takeDeliveries() -> EncodedDeliveries? {
            state.withLock { state in
                guard let last = state.waiting.last else { return nil }
                for one in state.waiting { state.seen[one.place, default: 0] += 1 }
                state.waiting = []
                return EncodedDeliveries(bytes: [], lastID: last.id)
            }
        }

        func discard() { state.withLock { $0.waiting = [] } }
        func add(committed: [TopicPartition: Int64]) {}
        func fail(_ error: ServiceError) { state.withLock { $0.failure = error } }
        func ring() { bell.ring() }

        var seen: [Place: Int] { state.withLock { $0.seen } }

        /// Takes and acknowledges until so many records came.
        func acknowledge(_ count: Int, through handle: SubscriberHandle) async throws {
            while seen.count < count {
                if let failure = state.withLock({ $0.failure }) { throw failure }
                if let taken = handle.takeDeliveries() {
                    handle.acknowledge(ids: [], through: taken.lastID)
                } else {
                    await bell.sleep(until: nil)
                }
            }
        }

        /// Takes what comes without acknowledging, until so many came.
        func take(_ count: Int, through handle: SubscriberHandle) async {
            while seen.count < count {
                if handle.takeDeliveries() == nil { await bell.sleep(until: nil) }
            }
        }
    }

    private func withHub(
        _ body: (SubscriptionHub, LocalLog, ReadMemory<RecordBacklog>) async throws -> Void
    ) async throws {
        let path = FileManager.default.temporaryDirectory.path + "/martlet-hub-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: path) }
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let log = try await LocalLog.open(directory: path, settings: LocalLogSettings(), logger: logger)
        let groups = GroupCoordinator(store: LogGroupStore(log: log), logger: logger)
        let memory = ReadMemory<RecordBacklog>(bytesMax: Self.memoryMax)
        let hub = SubscriptionHub(
            log: log,
            coordinator: groups,
            memory: memory,
            explain: { $0 as? ServiceError ?? ServiceError(.unavailable, "\($0)") },
            logger: logger
        )
        do {
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { await groups.run() }
                try await body(hub, log, memory)
                group.cancelAll()
            }
        } catch {
            await log.close()
            throw error
        }
        await log.close()
    }

    private func request(_ group: String, _ topic: String, count: Int = 10) -> SubscriptionRequest {
        SubscriptionRequest(
            group: group,
            topics: [topic],
            start: .earliest,
            filter: nil,
            limits: SubscriptionState.Limits(countMax: count, bytesMax: 16 << 20, deadline: .seconds(600)),
            reportsCommits: false,
            peer: "test"
        )
    }

    /// A batch of records of 64 KiB, compressed twentyfold.
    private static func batch() -> [UInt8] {
        let plain = RecordBatchEncoder.encode(
            (0..<recordsPerBatch).map { number in
                Record(
                    timestamp: 0,
                    key: nil,
                    value: Array(repeating: UInt8(number), count: batchBytes / recordsPerBatch),
                    headers: []
                )
            }
        )
        var batch = Array(plain[..<RecordBatchHeader.byteCount]) + snappy(plain[RecordBatchHeader.byteCount...])
        BigEndian.store(Int32(batch.count - RecordBatchHeader.lengthPrefixByteCount), to: &batch, at: 8)
        BigEndian.store(CompressionCodec.snappy.rawValue, to: &batch, at: RecordBatchHeader.checksummedFrom)
        let checksum = CRC32C.checksum(batch, in: RecordBatchHeader.checksummedFrom..<batch.count)
        BigEndian.store(checksum, to: &batch, at: 17)
        return batch
    }

    /// Snappy's raw format: the length, then bytes as they are and copies of the byte before.
    private static func snappy(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
        var out: [UInt8] = []
        var length = bytes.count
        while length >= 0x80 {
            out.append(UInt8(length & 0x7F) | 0x80)
            length >>= 7
        }
        out.append(UInt8(length))
        var index = bytes.startIndex
        while index < bytes.endIndex {
            out += [0, bytes[index]]
            let value = bytes[index]
            index += 1
            while true {
                let run = bytes[index...].prefix(64).prefix { $0 == value }.count
                if run == 0 { break }
                out += [UInt8(run - 1) << 2 | 2, 1, 0]
                index += run
            }
        }
        return out
    }

    private func fill(_ log: LocalLog, partitions: Int32, batches: Int) async throws {
        try await log.createTopic("t", partitions: partitions, settings: TopicSettings(retentionMilliseconds: nil))
        let batch = Self.batch()
        #expect(batch.count < Self.batchBytes / 10)
        for partition in 0..<partitions {
            for _ in 0..<batches {
                _ = try await log.append(batch, to: TopicPartition(topic: "t", partition: partition))
            }
        }
    }

    private func expectBounded(_ memory: ReadMemory<RecordBacklog>) {
        // Beside what is shared, each processor may find out that what it decompresses is larger than it was thought.
        let slack = 4 * Self.batchBytes
        #expect(memory.usage.peak <= Self.memoryMax + slack, "\(memory.usage.peak)")
        #expect(memory.usage.peak > 0)
    }

    @Test func manyCompressedPartitionsNeedNoMoreMemoryAndLoseNothing() async throws {
        try await withHub { hub, log, memory in
            let partitions: Int32 = 80
            let batches = 2
            try await fill(log, partitions: partitions, batches: batches)
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { await hub.run() }
                // One that never acknowledges has partitions in hand for ever, and stalls nobody.
                let idle = Sink()
                let stuck = try await hub.subscribe(request("stuck", "t"), idle)
                await idle.take(10, through: stuck)
                let sink = Sink()
                let handle = try await hub.subscribe(request("busy", "t"), sink)
                let total = Int(partitions) * batches * Self.recordsPerBatch
                try await sink.acknowledge(total, through: handle)
                #expect(sink.seen.count == total)
                #expect(sink.seen.values.allSatisfy { $0 == 1 })
                #expect(idle.seen.count == 10)
                expectBounded(memory)
                // Then the other goes on, from what was taken away from it.
                stuck.acknowledge(ids: [], through: .max)
                try await idle.acknowledge(total, through: stuck)
                #expect(idle.seen.count == total)
                #expect(idle.seen.values.allSatisfy { $0 == 1 })
                expectBounded(memory)
                group.cancelAll()
            }
            #expect(memory.usage.bytes == 0)
        }
    }

    @Test func readersWithoutAGroupNeedNoMoreMemoryAndLoseNothing() async throws {
        try await withHub { _, log, memory in
            try await fill(log, partitions: 40, batches: 2)
            let reader = TopicReader(log: log, memory: memory)
            let shares = try await reader.shares(topics: ["t"], start: .earliest, stopsAtEnd: true)
            let sent = Mutex<[TopicPartition: [Int64]]>([:])
            try await withThrowingTaskGroup(of: Void.self) { group in
                // Readers whose clients take nothing.
                for _ in 0..<20 {
                    let blocked = Bell()
                    group.addTask {
                        try await reader.read(shares, messageBytesMax: 256 << 10) { record, _, bytes in
                            bytes += record.value ?? []
                        } send: { _ in
                            while !Task.isCancelled { await blocked.sleep(until: nil) }
                            throw CancellationError()
                        }
                    }
                }
                var waiting: [(TopicPartition, Int64)] = []
                try await reader.read(shares, messageBytesMax: 256 << 10) { record, partition, bytes in
                    bytes += record.value ?? []
                    waiting.append((partition, record.offset))
                } send: { message in
                    #expect(message.count <= 256 << 10)
                    await Task.yield()
                }
                for (partition, offset) in waiting { sent.withLock { $0[partition, default: []].append(offset) } }
                group.cancelAll()
                while await group.nextResult() != nil {}
            }
            let offsets = Array(0..<Int64(2 * Self.recordsPerBatch))
            #expect(sent.withLock { $0.count } == 40)
            #expect(sent.withLock { $0.values.allSatisfy { $0 == offsets } })
            expectBounded(memory)
            #expect(memory.usage.bytes == 0)
        }
    }

    @Test func subscribingWhileTheEngineStopsIsRefused() async throws {
        try await withHub { hub, log, _ in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            await withTaskGroup(of: Void.self) { group in
                group.addTask { await hub.run() }
                group.cancelAll()
            }
            #expect(await refusal(of: hub) == .unavailable)
        }
    }

    private func refusal(of hub: SubscriptionHub) async -> ServiceError.Code? {
        do throws(ServiceError) {
            _ = try await hub.subscribe(request("g", "t"), Sink())
            return nil
        } catch {
            return error.code
        }
    }

    @Test func whoeverWaitsForTheBeginWhenTheEngineStopsIsRefused() async throws {
        try await withHub { hub, log, _ in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            // Nobody runs the hub yet, and it is stopped before it has begun anything.
            await withTaskGroup(of: ServiceError.Code?.self) { group in
                group.addTask { await refusal(of: hub) }
                while hub.groupCount == 0 { await Task.yield() }
                await withTaskGroup(of: Void.self) { stopped in
                    stopped.cancelAll()
                    stopped.addTask { await hub.run() }
                }
                for await code in group { #expect(code == .unavailable) }
            }
        }
    }

    @Test func whoeverIsCancelledWhileItWaitsForTheBeginIsGone() async throws {
        try await withHub { hub, log, _ in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            await withTaskGroup(of: ServiceError.Code?.self) { group in
                group.addTask { await refusal(of: hub) }
                while hub.groupCount == 0 { await Task.yield() }
                group.cancelAll()
                for await code in group { #expect(code == .unavailable) }
            }
        }
    }
}
