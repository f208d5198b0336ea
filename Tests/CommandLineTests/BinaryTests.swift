// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// The program itself: what only a process of its own can show.
@Suite struct BinaryTests {
    /// The executable, which is built next to the tests.
    static var program: URL {
        URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
            .appendingPathComponent("martlet")
    }

    private func process(_ arguments: [String], server: String = "http://127.0.0.1:1") -> Process {
        let process = Process()
        process.executableURL = Self.program
        process.arguments = arguments
        process.environment = ["MARTLET_CONFIG": "/nonexistent/c.toml", "MARTLET_SERVER": server]
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        return process
    }

    /// Starts the process and returns when it ended.
    private func end(of process: Process) async throws {
        try await withCheckedThrowingContinuation { (done: CheckedContinuation<Void, any Error>) in
            process.terminationHandler = { _ in done.resume() }
            do { try process.run() } catch { done.resume(throwing: error) }
        }
    }

    @Test(
        .timeLimit(.minutes(5)),
        arguments: [(["--help"], 0), (["views", "list"], 5), (["nonsense"], 2)] as [([String], Int32)]
    )
    func exitCodeReachesTheShell(_ arguments: [String], _ code: Int32) async throws {
        let process = process(arguments)
        try await end(of: process)
        #expect(process.terminationReason == .exit)
        #expect(process.terminationStatus == code)
    }

    @Test(.timeLimit(.minutes(5))) func readerThatWentAwayIsNoCrash() async throws {
        let process = process(["--help"])
        let pipe = Pipe()
        try pipe.fileHandleForReading.close()
        process.standardOutput = pipe
        try await end(of: process)
        #expect(process.terminationReason == .exit)
        #expect(process.terminationStatus == 141)
    }

    @Test(.timeLimit(.minutes(5))) func interruptEndsATail() async throws {
        try await CannedServer.with({ _ in .json(#"{"data":[]}"#) }) { server in
            let process = process(["logs", "tail", "p", "-i", "10ms"], server: server.address)
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await end(of: process) }
                await server.waitForRequests(1)
                process.interrupt()
                try await group.waitForAll()
            }
            // A shell reports death by signal 2 as 130.
            #expect(process.terminationReason == .uncaughtSignal)
            #expect(process.terminationStatus == SIGINT)
        }
    }
}
