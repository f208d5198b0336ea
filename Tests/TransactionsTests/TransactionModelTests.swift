// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import FoundationEssentials
import KafkaCodec
import Testing
import Transactions

/// Idempotent and transactional producers that lose power at random moments and send again what they got no answer to.
@Suite(.timeLimit(.minutes(3)))
struct TransactionModelTests {
    @Test(arguments: 0..<6) func keepsEachRecordOnceAndTransactionsWhole(number: Int) async throws {
        let given = ProcessInfo.processInfo.environment["MARTLET_TEST_SEED"].flatMap { UInt64($0) }
        let seed = given ?? UInt64.random(in: 0...UInt64.max)
        print("keepsEachRecordOnceAndTransactionsWhole: MARTLET_TEST_SEED=\(seed)")
        var model = try await Model(seed: seed)
        for _ in 0..<200 { try await model.step() }
        try await model.settle()
        print("\(model.crashes) crashes, \(model.sent) records")
        #expect(model.sent > 50)
    }
}

/// A generator whose numbers follow from its seed.
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var word = state
        word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
        return word ^ (word >> 31)
    }
}

/// What a producer knows of itself, and what the log must hold because of it.
private struct Client {
    let name: String
    let isTransactional: Bool
    /// Speaks the version of the protocol in which every end raises the epoch.
    let raisesEpoch: Bool
    var producer: ProducerIdentity?
    var sequences: [Int32: Int32] = [:]
    /// The open transaction: values by partition, as sent.
    var open: [Int32: [String]]?
    var pendingOffset: Int64?
    /// Values that must be there, by partition, in this order.
    var committed: [Int32: [String]] = [:]
    var committedOffset: Int64?
    var count = 0
}

private struct Model {
    private var generator: SeededGenerator
    private var stand: Stand
    private var clients: [Client]
    private(set) var crashes = 0
    private(set) var sent = 0

    init(seed: UInt64) async throws {
        generator = SeededGenerator(state: seed)
        stand = try await Stand()
        clients = [
            Client(name: "older", isTransactional: true, raisesEpoch: false),
            Client(name: "newer", isTransactional: true, raisesEpoch: true),
            Client(name: "plain", isTransactional: false, raisesEpoch: false),
        ]
    }

    /// One operation of one client, or housekeeping, or a crash.
    mutating func step() async throws {
        switch Int.random(in: 0..<40, using: &generator) {
        case 0: await stand.log.maintain()
        case 1, 2:
            // Power fails after some more operations.
            stand.failFlushes(of: "")
        default: break
        }
        let index = Int.random(in: 0..<clients.count, using: &generator)
        try await act(index)
    }

    /// Ends everything and compares the log with what was sent.
    mutating func settle() async throws {
        try await crash()
        for index in clients.indices where clients[index].open != nil { try await end(index, commit: true) }
        try await crash()
        try await compare(isSettled: true)
        await stand.log.close()
    }

    private mutating func act(_ index: Int) async throws {
        guard clients[index].producer != nil else { return try await begin(index) }
        guard clients[index].isTransactional else { return try await put(index, "\(clients[index].count)") }
        switch Int.random(in: 0..<12, using: &generator) {
        case 0: try await begin(index)
        case 1,
            2 where clients[index].open != nil:
            try await end(index, commit: Bool.random(using: &generator))
        case 3 where clients[index].open != nil: try await offsets(index)
        default: try await put(index, "\(clients[index].count)")
        }
    }

    /// Does an operation until it is answered, through as many crashes as it takes.
    private mutating func insist<Value: Sendable>(_ operation: (Stand) async throws -> Value) async throws -> Value {
        for _ in 0..<50 {
            do {
                let value = try await operation(stand)
                return value
            } catch let error as EventLogError where error.code == .partitionStopped {
                try await crash()
            } catch let error as TransactionError
                where error.code == .coordinatorNotAvailable || error.code == .concurrentTransactions
            {
                try await crash()
            }
        }
        Issue.record("no answer after 50 crashes")
        throw TransactionError(.coordinatorNotAvailable, "no answer")
    }

    private mutating func begin(_ index: Int) async throws {
        let name = clients[index].isTransactional ? clients[index].name : nil
        clients[index].producer = try await insist { stand in
            try await stand.coordinator.initProducerID(transactionalID: name, timeoutMilliseconds: 60_000)
        }
        // What was open is aborted by it.
        clients[index].open = nil
        clients[index].pendingOffset = nil
        clients[index].sequences = [:]
    }

    private mutating func put(_ index: Int, _ value: String) async throws {
        let partition = Int32.random(in: 0..<3, using: &generator)
        let client = clients[index]
        guard let producer = client.producer else { return }
        let text =
            "\(client.name)/\(value)/" + String(repeating: "x", count: Int.random(in: 0..<300, using: &generator))
        if client.isTransactional {
            try await insist { stand in
                try await stand.coordinator.addPartitions(
                    transactionalID: client.name,
                    producer: producer,
                    partitions: [p(partition)]
                )
            }
            clients[index].open = client.open ?? [:]
        }
        let sequence = client.sequences[partition, default: 0]
        let times = Int.random(in: 1...2, using: &generator)
        for _ in 0..<times {
            try await insist { stand in
                try await stand.put(
                    text,
                    p(partition),
                    producer,
                    sequence: sequence,
                    isTransactional: client.isTransactional
                )
            }
        }
        clients[index].sequences[partition] = sequence + 1
        clients[index].count += 1
        sent += 1
        if client.isTransactional {
            clients[index].open?[partition, default: []].append(text)
        } else {
            clients[index].committed[partition, default: []].append(text)
        }
    }

    private mutating func offsets(_ index: Int) async throws {
        let client = clients[index]
        guard let producer = client.producer else { return }
        try await insist { stand in
            try await stand.coordinator.addOffsets(transactionalID: client.name, producer: producer, group: client.name)
        }
        let offset = Int64(client.count)
        try await insist { stand in
            try await stand.coordinator.commitOffsets(
                transactionalID: client.name,
                producer: producer,
                group: client.name,
                offsets: [p(0): CommittedOffset(offset: offset, committedAt: 0)]
            )
        }
        clients[index].pendingOffset = offset
    }

    private mutating func end(_ index: Int, commit: Bool) async throws {
        let client = clients[index]
        guard let producer = client.producer, let open = client.open else { return }
        let next = try await insist { stand in
            try await stand.coordinator.end(
                transactionalID: client.name,
                producer: producer,
                commit: commit,
                raisesEpoch: client.raisesEpoch
            )
        }
        #expect(client.raisesEpoch ? next.epoch == producer.epoch + 1 : next == producer)
        clients[index].producer = next
        if client.raisesEpoch { clients[index].sequences = [:] }
        clients[index].open = nil
        if commit {
            for (partition, values) in open { clients[index].committed[partition, default: []] += values }
            if let offset = client.pendingOffset { clients[index].committedOffset = offset }
        }
        clients[index].pendingOffset = nil
    }

    /// Power fails: of what was not flushed a random part is left.
    private mutating func crash() async throws {
        crashes += 1
        let left = try stand.directory.snapshot()
        for (file, flushed) in stand.flushedSizes(in: left) {
            let size = try left.size(file)
            guard size > flushed else { continue }
            try left.truncate(file, to: Int64.random(in: flushed...size, using: &generator))
        }
        await stand.log.close()
        stand = try await Stand(left)
        #expect(stand.log.damage() == [])
        try await compare(isSettled: false)
    }

    private func compare(isSettled: Bool) async throws {
        var found: [Int32: [String]] = [:]
        for partition: Int32 in 0..<3 { found[partition] = try await stand.texts(p(partition)) }
        for client in clients {
            let prefix = client.name + "/"
            let own = found.mapValues { $0.filter { $0.hasPrefix(prefix) } }
            for (partition, values) in own { #expect(Set(values).count == values.count, "twice in \(partition)") }
            for partition: Int32 in 0..<3 {
                let wanted = client.committed[partition] ?? []
                let values = own[partition] ?? []
                // What was not answered yet may be there behind it, and be the last of a stretch still hidden.
                if isSettled {
                    #expect(values == wanted)
                } else if client.isTransactional {
                    #expect(Array(wanted.prefix(values.count)) == Array(values.prefix(wanted.count)))
                }
            }
            if isSettled {
                #expect(stand.log.committed(group: client.name)[p(0)]?.offset == client.committedOffset)
            }
        }
    }
}
