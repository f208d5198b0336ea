// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore
import Workers

extension DispatchCore {
    /// Time beyond a call's limit after which a worker that says nothing is taken for stuck.
    private static let silenceGraceMicros: Int64 = 2_000_000
    /// Waiting time that calls for another worker.
    private static let waitMaxSeconds = 1.0
    /// Share of processor time that must be idle for another worker to be of use.
    private static let idleShareMin = 0.1
    /// How long the exit of a worker that broke off a request is waited for.
    private static let exitWaitMicros: Int64 = 500_000
    private static let stopGraceMicros: Int64 = 10_000_000

    /// Kills workers that hold work but neither finish it nor report.
    mutating func watchWorkers() {
        let limit = Int64(plan.resources.timeoutSeconds) * 1_000_000 + Self.silenceGraceMicros
        for (id, worker) in workers {
            if let broken = worker.broken, nowMicros - broken.sinceMicros > Self.exitWaitMicros {
                effects.append(.killWorker(id: id, .brokenProtocol(broken.why)))
                continue
            }
            if case .stopping(let since) = worker.phase {
                if nowMicros - since > max(limit, Self.stopGraceMicros) {
                    effects.append(.killWorker(id: id, .stopped))
                }
                continue
            }
            guard worker.inFlight > 0, nowMicros - worker.lastHeardMicros > limit else { continue }
            failStuck(id, worker)
            kill(id, .handlerTimeout)
        }
    }

    /// A worker that cannot even report holds the interpreter: what it was last known to run has timed out.
    private mutating func failStuck(_ id: String, _ worker: WorkerState) {
        for (number, request) in worker.requests {
            for index in request.running where request.ids[index] >= 0 {
                let result = InvocationResult(
                    index: index,
                    status: .timeout,
                    startMicros: worker.lastHeardMicros,
                    durationMicros: nowMicros - worker.lastHeardMicros
                )
                handle(.line(request: number, .results([result])), from: id)
            }
        }
        let isKnown = worker.requests.values.contains { !$0.running.isEmpty }
        guard !isKnown, let first = worker.requests.keys.min(), let request = worker.requests[first],
            let index = request.ids.firstIndex(where: { $0 >= 0 })
        else { return }
        let result = InvocationResult(
            index: index,
            status: .timeout,
            startMicros: worker.lastHeardMicros,
            durationMicros: nowMicros - worker.lastHeardMicros
        )
        handle(.line(request: first, .results([result])), from: id)
    }

    /// The status with the workers as they are now.
    var currentStatus: DeploymentStatus {
        var current = status
        current.workers = workers.count
        current.workersReady = workers.values.count { $0.phase == .ready }
        current.inFlight = workers.values.reduce(0) { $0 + $1.inFlight }
        return current
    }

    /// Starts and stops workers as the load asks.
    mutating func scale(idleProcessorShare: Double) {
        rate.tick(nowMicros: nowMicros)
        guard !isDraining else { return }
        let active = workers.values.count { if case .stopping = $0.phase { false } else { true } }
        if active < max(plan.resources.minConcurrency, needsWorker ? 1 : 0) {
            startWorker()
            return
        }
        if active < plan.resources.maxConcurrency, isOverloaded, idleProcessorShare > Self.idleShareMin {
            startWorker()
            return
        }
        stopIdle(active: active)
    }

    /// Whether events wait although every worker is busy.
    private var isOverloaded: Bool {
        let full = batchers.values.reduce(0) { $1.count >= $1.batching.size ? $0 + $1.count : $0 }
        let waiting = ready.count + isolated.count + full
        guard waiting > 0, !workers.isEmpty, workers.values.allSatisfy({ $0.phase == .ready }) else { return false }
        return rate.perSecond == 0 || Double(waiting) / rate.perSecond > Self.waitMaxSeconds
    }

    private mutating func stopIdle(active: Int) {
        guard active > plan.resources.minConcurrency, !needsWorker else { return }
        let idle = Int64(plan.idleSeconds) * 1_000_000
        let candidate = workers.first { _, worker in
            worker.phase == .ready && worker.inFlight == 0 && nowMicros - worker.lastActiveMicros > idle
        }
        guard let id = candidate?.key else { return }
        workers[id]?.phase = .stopping(sinceMicros: nowMicros)
        effects.append(.stopWorker(id: id))
    }

    /// Starts one worker unless starts have failed lately.
    package mutating func startWorker() {
        guard starts.allows(nowMicros: nowMicros) else { return }
        nextWorker += 1
        let id = "\(plan.name)-\(nextWorker)"
        workers[id] = WorkerState(nowMicros: nowMicros)
        effects.append(.startWorker(id: id))
    }
}
