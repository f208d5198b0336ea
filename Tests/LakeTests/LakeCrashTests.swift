// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
import Foundation
import Lake
import Testing

/// Kills a writing process at random moments; what it acknowledged must be there, and no transaction half.
@Suite(.serialized, .timeLimit(.minutes(3))) struct LakeCrashTests {
    private static var writer: URL {
        // The test bundle and the executables stand in the same build folder.
        let bundle = CommandLine.arguments.first { $0.hasSuffix(".xctest") } ?? CommandLine.arguments[0]
        return URL(filePath: bundle).deletingLastPathComponent().appending(path: "LakeCrashWriter")
    }

    @Test func killedWritersLoseNothingAcknowledged() async throws {
        let given = ProcessInfo.processInfo.environment["MARTLET_TEST_SEED"].flatMap { UInt64($0) }
        let seed = given ?? UInt64.random(in: 1 ... .max)
        print("killed writers: MARTLET_TEST_SEED=\(seed)")
        try await LakeFixture.withDirectory { directory in
            var state = seed
            let thread = DatabaseThread(name: "crash-test")
            defer { thread.stop() }
            for round in 0..<6 {
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                let acknowledgements = 20 + Int(state >> 33) % 200
                let acknowledged = try await thread.run { try Self.write(directory, until: acknowledgements) }
                let lake = LakeFixture.make(directory)
                let heads = try await lake.rows("SELECT committer, number FROM heads")
                for (committer, number) in acknowledged {
                    let found = heads.first { $0[0] == .int(committer) }?[1]
                    guard case .int(let kept)? = found else {
                        Issue.record("round \(round): committer \(committer) has no row")
                        continue
                    }
                    #expect(kept >= number, "round \(round), committer \(committer)")
                    let history = try await lake.rows(
                        "SELECT count(*), max(number) FROM history WHERE committer = \(committer) AND number <= \(kept)"
                    )
                    #expect(history == [[.int(kept + 1), .int(kept)]], "round \(round), committer \(committer)")
                }
                let beyond = try await lake.rows(
                    "SELECT count(*) FROM history h JOIN heads d USING (committer) WHERE h.number > d.number"
                )
                #expect(beyond == [[.int(0)]])
                _ = try await lake.query("DELETE FROM heads", allowWrites: true)
                _ = try await lake.query("DELETE FROM history", allowWrites: true)
                await lake.close()
            }
        }
    }

    @Test func aFileInUseByAnotherProcessIsRefused() async throws {
        try await LakeFixture.withDirectory { directory in
            let process = Process()
            process.executableURL = Self.writer
            process.arguments = ["write", directory, LakeFixture.virtualEnvironment, "1"]
            let pipe = Pipe()
            process.standardOutput = pipe
            try process.run()
            let thread = DatabaseThread(name: "crash-test")
            defer { thread.stop() }
            #expect(try await thread.run { !pipe.fileHandleForReading.availableData.isEmpty })
            let lake = LakeFixture.make(directory)
            let error = await lake.refusal(upsert("t", key: "k", columns: "k", rows: "[1]"))
            #expect(error?.code == .unavailable)
            #expect(error?.message.contains("in use by another process") == true, "\(String(describing: error))")
            await lake.close()
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
        }
    }

    /// Runs the writer, kills it after some acknowledgements and returns the last number of each committer.
    private static func write(_ directory: String, until count: Int) throws -> [Int64: Int64] {
        let process = Process()
        process.executableURL = writer
        process.arguments = ["write", directory, LakeFixture.virtualEnvironment, "8"]
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        var text = Data()
        var lines = 0
        while lines < count {
            let part = pipe.fileHandleForReading.availableData
            if part.isEmpty { break }
            lines += part.count { $0 == 10 }
            text.append(part)
        }
        #expect(lines >= count, "the writer ended by itself")
        kill(process.processIdentifier, SIGKILL)
        text.append(pipe.fileHandleForReading.readDataToEndOfFile())
        process.waitUntilExit()
        var last: [Int64: Int64] = [:]
        for line in String(decoding: text, as: UTF8.self).split(separator: "\n") {
            let fields = line.split(separator: " ")
            guard fields.count == 3, let committer = Int64(fields[1]), let number = Int64(fields[2]) else { continue }
            last[committer] = number
        }
        return last
    }
}
