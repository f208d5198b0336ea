// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Foundation
import Logging
import MartletCore
import Testing
import Triggers
import Views

@Suite(.serialized, .timeLimit(.minutes(3)))
struct KillTests {
    /// What the test did to one file.
    private struct Expectation {
        var isRemoved = false
        var tag: String?
    }

    @Test func killedTwentyTimesItLosesNothingAndRepeatsNothing() async throws {
        let seed = ProcessInfo.processInfo.environment["KILL_SEED"].flatMap(UInt64.init) ?? .random(in: 0...UInt64.max)
        print("KILL_SEED=\(seed)")
        var random = SplitMix(state: seed)
        let directory = Engine.temporaryPath()
        let view = "\(directory)/view"
        try FileManager.default.createDirectory(atPath: "\(directory)/data", withIntermediateDirectories: true)
        try FileManager.default.createDirectory(atPath: view, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }  // Nothing can be done about it.
        var files: [String: Expectation] = [:]
        // The first run makes the triggers; only what comes after them is news.
        try await run("\(directory)/data", view, milliseconds: 1500)
        for round in 0..<20 {
            let milliseconds = Int.random(in: 60...500, using: &random)
            async let killed: Void = run("\(directory)/data", view, milliseconds: milliseconds)
            for step in 0..<Int.random(in: 20...80, using: &random) {
                try change(view, "\(round)-\(step)", &files, &random)
                if step % 8 == 0 { try await Task.sleep(for: .milliseconds(Int.random(in: 1...30, using: &random))) }
            }
            try await killed
            for step in 0..<10 { try change(view, "\(round)-down-\(step)", &files, &random) }
        }
        try await finish("\(directory)/data", view, files)
    }

    private func change(
        _ view: String,
        _ name: String,
        _ files: inout [String: Expectation],
        _ random: inout SplitMix
    ) throws {
        switch Int.random(in: 0..<10, using: &random) {
        case 0:
            guard let key = files.filter({ !$0.value.isRemoved }).keys.sorted().randomElement(using: &random) else {
                return
            }
            unlink("\(view)/\(key)")
            files[key]?.isRemoved = true
        case 1:
            guard
                let key = files.filter({ !$0.value.isRemoved && $0.value.tag == nil }).keys.sorted().randomElement(
                    using: &random
                )
            else { return }
            _ = try ElementDirectory(root: view).tag(key, ["k": name])
            files[key]?.tag = name
        default:
            let directory = "d\(Int.random(in: 0..<5, using: &random))"
            mkdir("\(view)/\(directory)", 0o755)
            let key = "\(directory)/\(name)"
            let file = open("\(view)/\(key)", O_WRONLY | O_CREAT | O_CLOEXEC, 0o644)
            _ = write(file, name, name.utf8.count)
            close(file)
            files[key] = Expectation()
        }
    }

    /// Runs until both topics tell of everything, then checks each element's story.
    private func finish(_ data: String, _ view: String, _ files: [String: Expectation]) async throws {
        try await run(data, view, milliseconds: 3000)
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let log = try await LocalLog.open(directory: data, logger: logger)
        for topic in ["one", "two"] {
            let events = try await Engine.events(log, topic)
            #expect(Set(events.map(\.id)).count == events.count, "ids are unique in \(topic)")
            let stories = Dictionary(grouping: events) { String($0[extension: "elementpath"]?.dropFirst(2) ?? "") }
            for (key, expectation) in files {
                let story = (stories[key] ?? []).map { String($0.type.split(separator: ".").last ?? "") }
                let tags = expectation.tag == nil ? [] : ["ElementTagCreated"]
                if expectation.isRemoved {
                    // Nobody saw it, or everything up to its end was told; a tag may have gone unseen.
                    let wanted = [
                        [], ["ElementCreated", "ElementDeleted"], ["ElementCreated"] + tags + ["ElementDeleted"],
                    ]
                    #expect(wanted.contains(story), "\(topic) \(key): \(story)")
                } else {
                    #expect(story == ["ElementCreated"] + tags, "\(topic) \(key)")
                }
            }
            #expect(Set(stories.keys).isSubset(of: files.keys))
        }
        await log.close()
    }

    private func run(_ data: String, _ view: String, milliseconds: Int) async throws {
        let process = Process()
        process.executableURL = try Self.writer()
        process.arguments = [data, view]
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        try await Task.sleep(for: .milliseconds(milliseconds))
        try #require(process.isRunning, "the writer ended by itself")
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }

    /// The program beside the tests.
    private static func writer() throws -> URL {
        var folder = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
        for argument in CommandLine.arguments where argument.hasSuffix(".xctest") {
            folder = URL(fileURLWithPath: argument).deletingLastPathComponent()
        }
        let url = folder.appendingPathComponent("TriggersCrashWriter")
        try #require(FileManager.default.isExecutableFile(atPath: url.path), "\(url.path) is missing")
        return url
    }
}

struct SplitMix: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
