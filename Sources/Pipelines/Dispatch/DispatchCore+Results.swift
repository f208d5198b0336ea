// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DequeModule
import MartletCore
import Workers

extension DispatchCore {
    mutating func handle(_ event: WorkerEvent, from id: String) {
        guard workers[id] != nil else { return }
        switch event {
        case .ready:
            if workers[id]?.phase == .starting { workers[id]?.phase = .ready }
            workers[id]?.lastActiveMicros = nowMicros
            starts.succeeded()
            status.reason = nil
        case .failed(let failure):
            status.reason = failure.reason
            effects.append(.workerFailed(failure))
        case .line(let request, let line):
            workers[id]?.lastHeardMicros = nowMicros
            switch line {
            case .results(let results): take(results, of: request, from: id)
            case .running(let running): workers[id]?.requests[request]?.running = Set(running.map(\.index))
            }
        case .requestEnded(let request, let error): requestEnded(request, of: id, error: error)
        case .exited(let exit): workerExited(id, exit)
        }
    }

    private mutating func take(_ results: [InvocationResult], of request: Int, from worker: String) {
        guard var state = workers[worker], var open = state.requests[request] else { return }
        var finished = [FinishedAttempt]()
        var outputs = [(id: Int, event: PendingEvent, outputs: [InvocationResult.Output])]()
        var timedOut = false
        for result in results {
            let id = open.ids[result.index]
            guard id >= 0, let event = events[id] else { continue }
            open.ids[result.index] = -1
            open.unfinished -= 1
            state.inFlight -= 1
            state.measured(micros: result.durationMicros)
            switch result.status {
            case .ok:
                status.succeeded += 1
                finished.append(FinishedAttempt(event: event, result: result, isLastAttempt: true))
                if plan.outputTopic != nil, !result.outputs.isEmpty {
                    unpublished[id] = result.outputs
                    outputs.append((id, event, result.outputs))
                } else {
                    complete(id)
                }
            case .error:
                let failure = result.failure ?? .init(type: "Error", message: "the handler failed without saying why")
                finished.append(FinishedAttempt(event: event, result: result, isLastAttempt: fail(id, failure)))
            case .timeout:
                timedOut = true
                let seconds = plan.resources.timeoutSeconds
                let failure = InvocationResult.Failure(
                    type: "Timeout",
                    message: "the handler ran longer than its limit of \(seconds) s (resources.timeout)"
                )
                var shown = result
                shown.failure = failure
                finished.append(FinishedAttempt(event: event, result: shown, isLastAttempt: fail(id, failure)))
            }
        }
        state.requests[request] = open.unfinished == 0 ? nil : open
        state.lastActiveMicros = nowMicros
        if state.inFlight == 0 { state.isExclusive = false }
        workers[worker] = state
        rate.add(finished.count)
        if !finished.isEmpty { effects.append(.finished(finished)) }
        if !outputs.isEmpty { effects.append(.publish(outputs)) }
        if timedOut { effects.append(.killWorker(id: worker, .handlerTimeout)) }
    }

    /// Counts a failed attempt and decides between another one and the dead-letter topic.
    ///
    /// - Returns: Whether it was the last attempt.
    mutating func fail(_ id: Int, _ failure: InvocationResult.Failure) -> Bool {
        guard var event = events[id] else { return true }
        event.failures += 1
        event.batch = 0
        status.failed += 1
        events[id] = event
        if event.failures > plan.inputs[event.input].retries {
            status.deadLettered += 1
            undelivered[id] = failure
            effects.append(.deadLetter([(id, event, failure)]))
            return true
        }
        status.retried += 1
        schedule(id, dueMicros: nowMicros + RetryPolicy.delayMicros(failures: event.failures))
        return false
    }

    private mutating func requestEnded(_ request: Int, of worker: String, error: String?) {
        guard let open = workers[worker]?.requests[request], open.unfinished > 0 else { return }
        // The worker's process says more when it has died; without an exit, a worker that breaks the protocol is replaced.
        effects.append(.killWorker(id: worker, .notStarted(error ?? "it ended a request without all results")))
    }

    private mutating func workerExited(_ id: String, _ exit: WorkerExit) {
        guard let state = workers.removeValue(forKey: id) else { return }
        if case .starting = state.phase, exit.cause != .stopped {
            starts.failed(nowMicros: nowMicros)
            if status.reason == nil { status.reason = exit.reason }
        }
        let wanted = exit.cause == .stopped || exit.cause == .handlerTimeout
        if !wanted { effects.append(.workerCrashed(exit)) }
        var innocent = [Int]()
        var suspects = [Int]()
        for key in state.requests.keys.sorted() {
            guard let request = state.requests[key] else { continue }
            let unfinished = request.ids.filter { $0 >= 0 }
            for event in unfinished {
                if wanted || suspects.count >= plan.workerConcurrency {
                    innocent.append(event)
                } else {
                    suspects.append(event)
                }
            }
        }
        for event in suspects {
            if state.isExclusive {
                crashed(event, exit)
            } else {
                events[event]?.isIsolated = true
                events[event]?.batch = 0
                isolated.append(event)
            }
        }
        for event in innocent.reversed() {
            guard let input = events[event]?.input else { continue }
            events[event]?.batch = 0
            if batchers[input] != nil { makeReady(event, input: input) } else { ready.prepend(event) }
        }
    }

    private mutating func crashed(_ id: Int, _ exit: WorkerExit) {
        guard let event = events[id] else { return }
        let failure = InvocationResult.Failure(
            type: "WorkerDied",
            message: "\(exit.reason) while it handled this event",
            traceback: exit.outputTail.isEmpty ? nil : exit.outputTail
        )
        let result = InvocationResult(
            index: 0,
            status: .error,
            startMicros: event.sentMicros,
            durationMicros: nowMicros - event.sentMicros,
            failure: failure
        )
        let isLast = fail(id, failure)
        effects.append(.finished([FinishedAttempt(event: event, result: result, isLastAttempt: isLast)]))
    }

    // MARK: Topics

    mutating func published(_ ids: [Int], error: String?) {
        guard error == nil else {
            status.reason = "results cannot be written: \(error ?? "")"
            refusedOutputs += ids
            return
        }
        for id in ids {
            unpublished[id] = nil
            complete(id)
        }
    }

    mutating func deadLettered(_ ids: [Int], error: String?) {
        guard error == nil else {
            status.reason = "dead letters cannot be written: \(error ?? "")"
            refusedLetters += ids
            return
        }
        for id in ids {
            undelivered[id] = nil
            complete(id)
        }
    }

    /// Tries again what a full or failing log refused.
    mutating func retryStorage() {
        guard !refusedOutputs.isEmpty || !refusedLetters.isEmpty else { return }
        let outputs = refusedOutputs.compactMap {
            id -> (id: Int, event: PendingEvent, outputs: [InvocationResult.Output])? in
            guard let event = events[id], let outputs = unpublished[id] else { return nil }
            return (id, event, outputs)
        }
        let letters = refusedLetters.compactMap {
            id -> (id: Int, event: PendingEvent, failure: InvocationResult.Failure)? in
            guard let event = events[id], let failure = undelivered[id] else { return nil }
            return (id, event, failure)
        }
        refusedOutputs = []
        refusedLetters = []
        if !outputs.isEmpty { effects.append(.publish(outputs)) }
        if !letters.isEmpty { effects.append(.deadLetter(letters)) }
    }
}
