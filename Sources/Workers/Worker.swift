// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import NIOCore
import Foundation
import Glibc
import Synchronization

/// One running worker: its process, its connections and what it reported.
///
/// Everything that happens is told through `onEvent`, from any thread; the owner decides what to do about it.
package final class Worker: Sendable {
    package let spec: WorkerSpec

    private enum Phase {
        case starting
        case ready(WorkerClient)
        case ended
    }

    private let loop: any EventLoop
    private let phase = Mutex(Phase.starting)
    private let failure = Mutex<WorkerFailure?>(nil)
    private let killSwitch = WorkerKillSwitch()
    private let onEvent: @Sendable (WorkerEvent) -> Void

    package init(spec: WorkerSpec, loop: any EventLoop, onEvent: @escaping @Sendable (WorkerEvent) -> Void) {
        self.spec = spec
        self.loop = loop
        self.onEvent = onEvent
    }

    /// Runs the worker to its end; the last event is `.exited`.
    package func run(on backend: any WorkerBackend) async {
        let exit = await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.watchStart() }
            let exit = await backend.run(spec, kill: killSwitch)
            group.cancelAll()
            return exit
        }
        let client = phase.withLock { phase -> WorkerClient? in
            defer { phase = .ended }
            if case .ready(let client) = phase { return client }
            return nil
        }
        client?.close()
        removeFiles()
        onEvent(.exited(exit))
    }

    /// Told by the gateway: the worker listens.
    package func becameReady(_ readiness: WorkerReadiness) async throws {
        let client = try await WorkerClient.make(loop: loop, socketPath: spec.socketPath, onEvent: onEvent)
        let accepted = phase.withLock { phase in
            guard case .starting = phase else { return false }
            phase = .ready(client)
            return true
        }
        if accepted { onEvent(.ready(readiness)) }
    }

    /// Told by the gateway: the worker gives up.
    package func reportFailure(_ failure: WorkerFailure) {
        self.failure.withLock { $0 = failure }
        onEvent(.failed(failure))
    }

    /// Sends a batch; where the worker is not ready the request ends with an error at once.
    package func invoke(request: Int, body: ByteBuffer, count: Int) {
        let client = phase.withLock { phase -> WorkerClient? in
            if case .ready(let client) = phase { return client }
            return nil
        }
        if let client {
            client.invoke(request: request, body: body, count: count)
        } else {
            onEvent(.requestEnded(request: request, error: "the worker is not ready"))
        }
    }

    /// Asks it to finish and exit; after the grace time the owner calls ``kill(_:)``.
    package func stop() { killSwitch.stop() }

    /// Ends it by force.
    package func kill(_ cause: WorkerExit.Cause) { killSwitch.kill(cause) }

    private func watchStart() async {
        do { try await Task.sleep(for: spec.startTimeout) } catch { return }
        let late = phase.withLock { if case .starting = $0 { true } else { false } }
        if late { kill(.startTimeout) }
    }

    private func removeFiles() {
        _ = spec.socketPath.withCString { unlink($0) }
        guard let folder = spec.scratchDirectory else { return }
        do {
            try FileManager.default.removeItem(atPath: folder)
        } catch {
            // What cannot be removed now is removed with the rest of the temporary folder at the next start.
        }
    }
}
