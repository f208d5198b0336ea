// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import FoundationEssentials
import Glibc
import KafkaCodec
import Testing

/// Runs `eventlog-crash-writer` and reads what it says.
struct CrashWriter {
    let output: String
    let exitedBySignal: Bool

    /// Starts the writer, lets it work for a time, kills it where asked to, and collects its output.
    static func run(_ arguments: [String], killingAfterMilliseconds delay: Int?) throws -> CrashWriter {
        var pipeEnds: [Int32] = [0, 0]
        try #require(pipe(&pipeEnds) == 0)
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawn_file_actions_adddup2(&actions, pipeEnds[1], 1)
        for end in pipeEnds { posix_spawn_file_actions_addclose(&actions, end) }
        defer { posix_spawn_file_actions_destroy(&actions) }
        let program = try path()
        var words: [UnsafeMutablePointer<CChar>?] = ([program] + arguments).map { strdup($0) }
        words.append(nil)
        defer { for word in words { free(word) } }
        var process = pid_t()
        try #require(posix_spawn(&process, program, &actions, nil, words, environ) == 0, "cannot start \(program)")
        close(pipeEnds[1])
        defer { close(pipeEnds[0]) }
        var bytes: [UInt8] = []
        var deadline: ContinuousClock.Instant?
        var isKilled = false
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            var poller = pollfd(fd: pipeEnds[0], events: Int16(POLLIN), revents: 0)
            let left = deadline.map { Int32(($0 - ContinuousClock.now) / .milliseconds(1)) }
            if let left, left <= 0, !isKilled {
                kill(process, SIGKILL)
                isKilled = true
            }
            if poll(&poller, 1, isKilled || left == nil ? -1 : max(left ?? 0, 1)) == 0 { continue }
            let count = Glibc.read(pipeEnds[0], &buffer, buffer.count)
            if count <= 0 { break }
            bytes += buffer[..<count]
            // The time counts from when the log is open.
            if deadline == nil, let delay, bytes.contains(10) { deadline = .now.advanced(by: .milliseconds(delay)) }
        }
        var status: Int32 = 0
        waitpid(process, &status, 0)
        return CrashWriter(output: String(decoding: bytes, as: UTF8.self), exitedBySignal: status & 0x7F != 0)
    }

    /// The whole lines of the output: the last one may have been cut by the kill.
    var lines: [[String]] {
        output.split(separator: "\n", omittingEmptySubsequences: false).dropLast()
            .map { $0.split(separator: " ").map(String.init) }
    }

    private static func path() throws -> String {
        // The writer is built next to the tests.
        var folder = URL(filePath: try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"))
        var candidates = [folder.deletingLastPathComponent().path]
        for argument in CommandLine.arguments {
            folder = URL(
                filePath: argument.hasPrefix("/") ? argument : FileManager.default.currentDirectoryPath + "/" + argument
            )
            candidates.append(folder.deletingLastPathComponent().path)
        }
        let found = candidates.map { $0 + "/eventlog-crash-writer" }.first { access($0, X_OK) == 0 }
        return try #require(found, "eventlog-crash-writer is not beside the tests in \(candidates)")
    }
}

@Suite(.timeLimit(.minutes(5)), .serialized)
struct CrashTests {
    @Test func losesNothingAcknowledgedWhenKilled() async throws {
        var generator = SeededGenerator.announced("losesNothingAcknowledgedWhenKilled")
        let directory = try TemporaryDirectory()
        var acknowledged: [Int32: [Int64: String]] = [:]
        var commits: [String: [Int32: Int64]] = [:]
        for round in 0..<20 {
            let delay = Int.random(in: 0...250, using: &generator)
            let writer = try CrashWriter.run([directory.path, "\(round)"], killingAfterMilliseconds: delay)
            #expect(writer.exitedBySignal)
            for line in writer.lines {
                switch line.first {
                case "record":
                    let partition = try #require(Int32(line[1]))
                    let offset = try #require(Int64(line[2]))
                    #expect(acknowledged[partition]?[offset] == nil, "offset \(offset) was given twice")
                    acknowledged[partition, default: [:]][offset] = line[3]
                case "commit":
                    let partition = try #require(Int32(line[2]))
                    commits[line[1], default: [:]][partition] = try #require(Int64(line[3]) as Int64?)
                case "failed": Issue.record("round \(round): \(line)")
                default: break
                }
            }
            try await check(directory, acknowledged, commits, round: round)
        }
        let total = acknowledged.values.reduce(0) { $0 + $1.count }
        print("losesNothingAcknowledgedWhenKilled: \(total) records acknowledged over 20 kills")
        #expect(total > 1000)
    }

    private func check(
        _ directory: TemporaryDirectory,
        _ acknowledged: [Int32: [Int64: String]],
        _ commits: [String: [Int32: Int64]],
        round: Int
    ) async throws {
        try await withLog(directory) { log async throws in
            guard log.topic("crash") != nil else {
                #expect(acknowledged.isEmpty)
                return
            }
            #expect(log.damage() == [], "round \(round)")
            for partition: Int32 in 0..<3 {
                let records = try await readAll(log, TopicPartition(topic: "crash", partition: partition))
                #expect(records.map(\.offset) == (0..<Int64(records.count)).map { $0 }, "round \(round)")
                var seen: Set<String> = []
                for record in records {
                    let name = record.text.split(separator: " ").first.map(String.init) ?? ""
                    #expect(seen.insert(name).inserted, "\(name) is in the log twice")
                }
                for (offset, name) in acknowledged[partition] ?? [:] {
                    try #require(
                        offset < Int64(records.count),
                        "round \(round): offset \(offset) of \(partition) is lost"
                    )
                    #expect(records[Int(offset)].text.hasPrefix(name + " ") || records[Int(offset)].text == name)
                }
            }
            for (group, offsets) in commits {
                let stored = log.committed(group: group)
                for (partition, offset) in offsets {
                    let found = stored[TopicPartition(topic: "crash", partition: partition)]?.offset ?? -1
                    #expect(found >= offset, "round \(round): commit \(offset) of \(group) is lost")
                }
            }
        }
    }

    /// Whatever moment the kill comes at, old or new segments are there, and the last acknowledged record of each key.
    @Test func losesNoKeyWhenKilledWhileCompacting() async throws {
        var generator = SeededGenerator.announced("losesNoKeyWhenKilledWhileCompacting")
        let directory = try TemporaryDirectory()
        var latest: [Int32: [String: Int64]] = [:]
        var written = 0
        for round in 0..<30 {
            let delay = Int.random(in: 0...200, using: &generator)
            let writer = try CrashWriter.run(
                [directory.path, "\(round)", "compaction"],
                killingAfterMilliseconds: delay
            )
            #expect(writer.exitedBySignal)
            for line in writer.lines {
                if line.first == "failed" { Issue.record("round \(round): \(line)") }
                guard line.first == "record" else { continue }
                let (partition, offset) = (try #require(Int32(line[1])), try #require(Int64(line[2])))
                latest[partition, default: [:]][line[3]] = max(latest[partition]?[line[3]] ?? -1, offset)
                written += 1
            }
            try await checkKeys(directory, latest, round: round)
        }
        let files = try directory.names(in: "log/topics/compacted/0")
        #expect(!files.contains { $0.hasSuffix(".tmp") || $0.hasSuffix(".replacement") })
        print("losesNoKeyWhenKilledWhileCompacting: \(written) records acknowledged over 30 kills")
        #expect(written > 1000)
    }

    private func checkKeys(
        _ directory: TemporaryDirectory,
        _ latest: [Int32: [String: Int64]],
        round: Int
    ) async throws {
        try await withLog(directory) { log async throws in
            guard log.topic("compacted") != nil else {
                #expect(latest.isEmpty)
                return
            }
            #expect(log.damage() == [], "round \(round)")
            for partition: Int32 in 0..<2 {
                let id = TopicPartition(topic: "compacted", partition: partition)
                let records = try await readAll(log, id)
                #expect(zip(records, records.dropFirst()).allSatisfy { $0.offset < $1.offset })
                var found: [String: Int64] = [:]
                for record in records { found[String(decoding: record.key ?? [], as: UTF8.self)] = record.offset }
                for (key, offset) in latest[partition] ?? [:] {
                    #expect((found[key] ?? -1) >= offset, "round \(round): the last record of \(key) is lost")
                }
            }
        }
    }

    @Test func failsAppendsBeyondAFileSizeLimitAndStaysUsable() async throws {
        let directory = try TemporaryDirectory()
        let writer = try CrashWriter.run([directory.path, "0", "20000"], killingAfterMilliseconds: nil)
        #expect(!writer.exitedBySignal)
        #expect(writer.lines.contains(["failed", "diskFull"]))
        #expect(!writer.lines.contains { $0.first == "failed" && $0[1] != "diskFull" })
        var acknowledged: [Int32: [Int64: String]] = [:]
        for line in writer.lines where line.first == "record" {
            acknowledged[try #require(Int32(line[1])), default: [:]][try #require(Int64(line[2]))] = line[3]
        }
        try await check(directory, acknowledged, [:], round: 0)
    }
}
