// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Foundation
import Glibc
import KafkaCodec
import Testing
import Transactions

/// Kills `eventlog-crash-writer` in the middle of transactions, again and again.
@Suite(.timeLimit(.minutes(3)))
struct TransactionCrashTests {
    /// What one transaction was said to have come to.
    private struct Outcome {
        var isAnswered = false
        let isCommitted: Bool
    }

    private struct Key: Hashable {
        let round: Int
        let worker: String
        let number: Int
    }

    @Test func keepsTransactionsWholeWhenKilled() async throws {
        let directory = try TemporaryDirectory()
        var outcomes: [Key: Outcome] = [:]
        var plain: [String: Int64] = [:]
        let given = ProcessInfo.processInfo.environment["MARTLET_TEST_SEED"].flatMap { UInt64($0) }
        let seed = given ?? UInt64.random(in: 0...UInt64.max)
        print("keepsTransactionsWholeWhenKilled: MARTLET_TEST_SEED=\(seed)")
        var generator = SeededGenerator(state: seed)
        for round in 0..<12 {
            let delay = Int.random(in: 0...300, using: &generator)
            for line in try await Self.lines(directory, round: round, killedAfterMilliseconds: delay) {
                switch line.first {
                case "ending", "ended":
                    let key = Key(round: round, worker: line[1], number: try #require(Int(line[2])))
                    outcomes[key] = Outcome(isAnswered: line[0] == "ended", isCommitted: line[3] == "commit")
                case "record":
                    let offset: Int64 = try #require(Int64(line[2]))
                    plain[line[3]] = offset
                case "failed": Issue.record("round \(round), \(delay) ms: \(line)")
                default: break
                }
            }
            try await check(directory, outcomes, plain, round: round)
        }
        let answered = outcomes.values.count { $0.isAnswered }
        print(
            "keepsTransactionsWholeWhenKilled: \(answered) transactions, \(plain.count) records answered over 12 kills"
        )
        #expect(answered > 100)
    }

    private func check(
        _ directory: TemporaryDirectory,
        _ outcomes: [Key: Outcome],
        _ plain: [String: Int64],
        round: Int
    ) async throws {
        let log = try await LocalLog.open(directory: directory.path, logger: quietLogger)
        let coordinator = TransactionCoordinator(log: log, logger: quietLogger)
        try await coordinator.recover()
        #expect(log.damage() == [], "round \(round)")
        // What is open is aborted by the next producer, so that nothing hides behind it.
        for (id, _) in coordinator.list(phases: [.ongoing]) {
            _ = try await coordinator.initProducerID(transactionalID: id, timeoutMilliseconds: 60_000)
        }
        var found: [Key: [Int32: [Int]]] = [:]
        var plainFound: [String: Int64] = [:]
        for partition: Int32 in 0..<3 where log.topic("crash") != nil {
            for (text, offset) in try await records(log, TopicPartition(topic: "crash", partition: partition)) {
                let parts = text.split(separator: "/").map(String.init)
                if parts[1] == "plain" {
                    #expect(plainFound.updateValue(offset, forKey: text) == nil, "\(text) is there twice")
                    continue
                }
                let key = Key(round: try #require(Int(parts[0])), worker: parts[1], number: try #require(Int(parts[2])))
                found[key, default: [:]][partition, default: []].append(try #require(Int(parts[3])))
            }
        }
        for (key, records) in found {
            let whole = Array(0..<1 + key.number % 3)
            for partition: Int32 in 0..<3 { #expect(records[partition] == whole, "\(key) is torn in \(partition)") }
            #expect(outcomes[key]?.isCommitted == true, "\(key) was not committed")
        }
        for (key, outcome) in outcomes where outcome.isAnswered && outcome.isCommitted {
            #expect(found[key] != nil, "\(key) is lost")
        }
        for (text, offset) in plain { #expect(plainFound[text] == offset, "\(text) is lost") }
        for (worker, keys) in Dictionary(grouping: found.keys, by: \.worker) {
            let last = keys.map { Int64($0.round) << 32 + Int64($0.number) }.max()
            let committed = log.committed(group: "g\(worker)").values.first?.offset
            #expect(committed == last, "offsets of \(worker) are not those of its last transaction")
        }
        await log.close()
    }

    private func records(_ log: LocalLog, _ id: TopicPartition) async throws -> [(String, Int64)] {
        var all: [(String, Int64)] = []
        var next: Int64 = 0
        while true {
            let result = try await log.read(id, from: next, bytesMax: 1 << 20)
            guard result.nextOffset > next else { return all }
            for record in try RecordBatches.records(in: result.bytes, from: next) {
                all.append((String(decoding: record.value ?? [], as: UTF8.self), record.offset))
            }
            next = result.nextOffset
        }
    }

    /// Runs the writer, kills it and returns the whole lines it wrote.
    private static func lines(
        _ directory: TemporaryDirectory,
        round: Int,
        killedAfterMilliseconds delay: Int
    ) async throws -> [[String]] {
        let process = Process()
        process.executableURL = try program()
        process.arguments = [directory.path, "\(round)", "transactions"]
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        var bytes = Data()
        while !bytes.contains(10) {
            let more = pipe.fileHandleForReading.availableData
            if more.isEmpty { break }
            bytes += more
        }
        let killer = Task {
            try await Task.sleep(for: .milliseconds(delay))
            kill(process.processIdentifier, SIGKILL)
        }
        bytes += try pipe.fileHandleForReading.readToEnd() ?? Data()
        try await killer.value
        process.waitUntilExit()
        #expect(process.terminationReason == .uncaughtSignal)
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
            .dropLast().map { $0.split(separator: " ").map(String.init) }
    }

    private static func program() throws -> URL {
        // The writer is built next to the tests.
        let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        let folders = [own] + CommandLine.arguments.map { URL(filePath: $0).path }
        let candidates = folders.map {
            URL(filePath: $0).deletingLastPathComponent().appending(path: "eventlog-crash-writer")
        }
        return try #require(candidates.first { access($0.path, X_OK) == 0 }, "not found: \(candidates)")
    }
}
