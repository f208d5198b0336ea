// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Logging
import Testing
import Workers

@Suite(.timeLimit(.minutes(5))) struct ProcessBackendTests {
    private func spec(_ script: String, memory: Int64? = nil, grace: Duration = .seconds(10)) -> WorkerSpec {
        WorkerSpec(
            id: "w",
            token: "t",
            executable: "/bin/sh",
            arguments: ["-c", script],
            environment: ["PATH": "/usr/bin:/bin"],
            workingDirectory: "/",
            socketPath: "/nonexistent.sock",
            concurrency: 1,
            memoryBytesMax: memory,
            stopGrace: grace
        )
    }

    private func run(_ spec: WorkerSpec, kill: WorkerKillSwitch = WorkerKillSwitch()) async -> WorkerExit {
        await ProcessBackend(logger: Logger(label: "test")).run(spec, kill: kill)
    }

    /// Waits until `condition` holds; the suite's time limit is the deadline.
    private func until(_ condition: () -> Bool) async {
        while !condition() { await Task.yield() }
    }

    private func path() -> String {
        FileManager.default.temporaryDirectory.appending(path: "martlet-worker-\(UUID().uuidString)").path
    }

    @Test func tellsStatusSignalAndLastOutput() async {
        #expect(await run(spec("echo oops >&2; exit 3")) == WorkerExit(cause: .exited(status: 3), outputTail: "oops\n"))
        #expect(await run(spec("kill -SEGV $$")).cause == .signalled(SIGSEGV))
        let missing = await run(
            WorkerSpec(
                id: "w",
                token: "t",
                executable: "/no/such/program",
                arguments: [],
                environment: [:],
                workingDirectory: "/",
                socketPath: "/x",
                concurrency: 1
            )
        )
        guard case .notStarted(let why) = missing.cause else {
            Issue.record("\(missing)")
            return
        }
        #expect(why.contains("/no/such/program"))
    }

    @Test func keepsOnlyTheEndOfAFlood() async {
        let exit = await run(spec("head -c 3000000 /dev/zero | tr '\\0' x; echo END"))
        #expect(exit.cause == .exited(status: 0))
        #expect(exit.outputTail.hasSuffix("END\n"))
        #expect(exit.outputTail.utf8.count <= 8 << 10)
    }

    @Test func killsAWorkerThatUsesTooMuchMemory() async {
        let exit = await run(spec("x=$(head -c 60000000 /dev/zero | tr '\\0' x); sleep 60", memory: 30 << 20))
        guard case .memoryLimit(let bytes, let limit) = exit.cause else {
            Issue.record("\(exit)")
            return
        }
        #expect(bytes > limit)
    }

    @Test func aStoppedWorkerMayFinishAndOneThatDoesNotIsKilled() async throws {
        let ready = path()
        let kill = WorkerKillSwitch()
        async let exit = run(
            spec("trap 'echo finished; exit 0' TERM; touch \(ready); while :; do sleep 0.02; done"),
            kill: kill
        )
        await until { FileManager.default.fileExists(atPath: ready) }
        kill.stop()
        #expect(await exit == WorkerExit(cause: .stopped, outputTail: "finished\n"))

        let stubborn = path()
        let second = WorkerKillSwitch()
        async let forced = run(spec("trap '' TERM; touch \(stubborn); while :; do sleep 0.02; done"), kill: second)
        await until { FileManager.default.fileExists(atPath: stubborn) }
        second.stop()
        second.kill(.handlerTimeout)
        #expect(await forced.cause == .stopped)
        for file in [ready, stubborn] { try FileManager.default.removeItem(atPath: file) }
    }

    @Test func cancellingStopsGracefullyThenByForce() async throws {
        let ready = path()
        let done = path()
        let script = "trap 'touch \(done); exit 0' TERM; touch \(ready); while :; do sleep 0.02; done"
        let exit = await withTaskGroup(of: WorkerExit?.self) { group in
            group.addTask { await run(spec(script)) }
            await until { FileManager.default.fileExists(atPath: ready) }
            group.cancelAll()
            return await group.next() ?? nil
        }
        #expect(exit != nil)
        #expect(FileManager.default.fileExists(atPath: done), "the worker got no time to finish")
        for file in [ready, done] { try? FileManager.default.removeItem(atPath: file) }
    }

    @Test func whatAWorkerStartedEndsWithIt() async throws {
        let file = path()
        let exit = await run(spec("sleep 300 & echo $! > \(file); exit 0"))
        #expect(exit.cause == .exited(status: 0))
        let text = try String(contentsOfFile: file, encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)
        let child = try #require(pid_t(text))
        await until {
            let state = try? String(contentsOfFile: "/proc/\(child)/stat", encoding: .utf8)
            return state.map { $0.contains(") Z ") } ?? true
        }
        try FileManager.default.removeItem(atPath: file)
    }

    @Test func aBrokenConnectionDoesNotHideHowAWorkerDied() async {
        let kill = WorkerKillSwitch()
        kill.kill(.handlerTimeout)
        #expect(await run(spec("exit 0"), kill: kill).cause == .handlerTimeout)
        #expect(
            WorkerExit(cause: .brokenProtocol("x"), outputTail: "").reason == "the worker broke the worker protocol: x"
        )
    }
}
