// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Dispatch
import Foundation
package import Logging
import Subprocess
import SystemPackage

/// Runs workers as child processes, each the leader of its own session so that what it starts ends with it.
package struct ProcessBackend: WorkerBackend {
    /// Bytes of raw output read from one worker per second; beyond it the worker's own writes wait, which slows nobody else.
    private static let outputBytesPerSecondMax = 4 << 20
    /// Short, because what a handler call takes it may give back before long.
    private static let memoryCheckInterval = Duration.milliseconds(100)

    private let logger: Logger

    package init(logger: Logger) {
        self.logger = logger
    }

    package func run(_ spec: WorkerSpec, kill: WorkerKillSwitch) async -> WorkerExit {
        let tail = OutputTail()
        var options = PlatformOptions()
        options.createSession = true
        options.teardownSequence = [.gracefulShutDown(allowedDurationToNextStep: spec.stopGrace)]
        let environment = Environment.custom(
            Dictionary(
                uniqueKeysWithValues: spec.environment.map { (Environment.Key(stringLiteral: $0.key), $0.value) }
            )
        )
        do {
            let result = try await Subprocess.run(
                .path(FilePath(spec.executable)),
                arguments: Arguments(spec.arguments),
                environment: environment,
                workingDirectory: FilePath(spec.workingDirectory),
                platformOptions: options,
                input: .none,
                output: .sequence,
                error: .combinedWithOutput
            ) { execution in
                let process = execution.processIdentifier.value
                arm(kill, process: process, grace: spec.stopGrace)
                defer {
                    kill.disarm()
                    _ = Foundation.kill(-process, SIGKILL)
                }
                await withTaskGroup(of: Void.self) { group in
                    if let limit = spec.memoryBytesMax {
                        group.addTask { await watchMemory(of: process, limit: limit, kill: kill) }
                    }
                    await drain(execution.standardOutput, into: tail)
                    await waitForEnd(of: process, grace: spec.stopGrace)
                    group.cancelAll()
                }
            }
            return WorkerExit(cause: cause(result.terminationStatus, kill: kill), outputTail: tail.text)
        } catch is CancellationError {
            return WorkerExit(cause: kill.cause ?? .stopped, outputTail: tail.text)
        } catch {
            return WorkerExit(cause: kill.cause ?? .notStarted("\(spec.executable): \(error)"), outputTail: tail.text)
        }
    }

    private func cause(_ status: TerminationStatus, kill: WorkerKillSwitch) -> WorkerExit.Cause {
        switch kill.cause {
        case .brokenProtocol? where status != .signaled(SIGKILL): break  // It died; how says more than its connection.
        case let cause?: return cause
        case nil: break
        }
        switch status {
        case .exited(let code): return .exited(status: code)
        case .signaled(let signal): return .signalled(signal)
        }
    }

    private func arm(_ kill: WorkerKillSwitch, process: pid_t, grace: Duration) {
        kill.arm { graceful in
            if graceful {
                _ = Foundation.kill(process, SIGTERM)
            } else {
                _ = Foundation.kill(-process, SIGKILL)
            }
        }
    }

    private func drain(_ output: SubprocessOutputSequence, into tail: OutputTail) async {
        var budget = Self.outputBytesPerSecondMax
        var window = ContinuousClock.now
        do {
            for try await chunk in output {
                let count = chunk.withUnsafeBytes { bytes in
                    tail.append(bytes)
                    return bytes.count
                }
                budget -= count
                guard budget <= 0 else { continue }
                try await Task.sleep(until: window + .seconds(1), clock: .continuous)
                window = .now
                budget = Self.outputBytesPerSecondMax
            }
        } catch {
            logger.debug("worker output ended", metadata: ["error": "\(error)"])
        }
    }

    /// Output ends before the process where it closes its descriptors or this task is cancelled: it still gets its time.
    private func waitForEnd(of process: pid_t, grace: Duration) async {
        var deadline: ContinuousClock.Instant?
        while isRunning(process) {
            if Task.isCancelled {
                let end = deadline ?? .now + grace
                if .now >= end { return }
                deadline = end
            }
            // Not Task.sleep, which returns at once in a cancelled task.
            await withCheckedContinuation { continuation in
                DispatchQueue.global().asyncAfter(deadline: .now() + .milliseconds(20)) { continuation.resume() }
            }
        }
    }

    /// Whether the child has not ended; leaves its status to be read by the one who started it.
    private func isRunning(_ process: pid_t) -> Bool {
        guard let text = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8),
            let state = text.split(separator: ")").last?.split(separator: " ").first
        else { return false }
        return state != "Z" && state != "X"
    }

    private func watchMemory(of process: pid_t, limit: Int64, kill: WorkerKillSwitch) async {
        while !Task.isCancelled {
            do { try await Task.sleep(for: Self.memoryCheckInterval) } catch { return }
            guard let bytes = residentBytes(of: process) else { return }
            if bytes > limit {
                kill.kill(.memoryLimit(bytes: bytes, limit: limit))
                return
            }
        }
    }

    private func residentBytes(of process: pid_t) -> Int64? {
        guard let text = try? String(contentsOfFile: "/proc/\(process)/statm", encoding: .utf8) else { return nil }
        let fields = text.split(separator: " ")
        guard fields.count > 1, let pages = Int64(fields[1]) else { return nil }
        return pages * Int64(sysconf(Int32(_SC_PAGESIZE)))
    }
}
