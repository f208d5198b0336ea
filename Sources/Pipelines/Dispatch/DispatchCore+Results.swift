// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DequeModule
import MartletCore
import Workers

extension DispatchCore {
    /// Time after which what the log refused is sent to it again.
    static let storageRetryMicros: Int64 = 1_000_000

    mutating func handle(_ event: WorkerEvent, from id: String) {
        guard workers[id] != nil else { return }
        switch event {
        case .ready:
            if workers[id]?.phase == .starting { workers[id]?.phase = .ready }
            workers[id]?.lastActiveMicros = nowMicros
            set(.workers, nil)
        case .failed(let failure):
            set(.workers, failure.reason)
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
        var failed = [Int]()
        for result in results {
            let id = open.ids[result.index]
            guard id >= 0, let event = events[id] else { continue }
            open.ids[result.index] = -1
            open.unfinished -= 1
            state.inFlight -= 1
            state.measured(micros: result.durationMicros)
            state.hasWorked = true
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
                failed.append(id)
                let failure = result.failure ?? .init(type: "Error", message: "the handler failed without saying why")
                finished.append(FinishedAttempt(event: event, result: result, isLastAttempt: fail(id, failure)))
            case .timeout:
                failed.append(id)
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
        alignRetries(failed)
        state.requests[request] = open.unfinished == 0 ? nil : open
        state.lastActiveMicros = nowMicros
        if state.inFlight == 0 { state.isExclusive = false }
        workers[worker] = state
        rate.add(finished.count)
        if !finished.isEmpty { starts.succeeded() }
        if !finished.isEmpty { effects.append(.finished(finished)) }
        if !outputs.isEmpty { effects.append(.publish(outputs)) }
        if timedOut { kill(worker, .handlerTimeout) }
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
        // A worker that has died breaks off its requests first and its exit, which says more, comes a moment later.
        guard workers[worker]?.broken == nil else { return }
        workers[worker]?.phase = .stopping(sinceMicros: nowMicros)
        workers[worker]?.broken = (nowMicros, error ?? "it ended a request without all results")
    }

    /// Ends a worker by force; it gets nothing more.
    mutating func kill(_ id: String, _ cause: WorkerExit.Cause) {
        workers[id]?.phase = .stopping(sinceMicros: nowMicros)
        effects.append(.killWorker(id: id, cause))
    }

    private mutating func workerExited(_ id: String, _ exit: WorkerExit) {
        guard let state = workers.removeValue(forKey: id) else { return }
        let neverWorked = state.phase == .starting || (state.inFlight == 0 && !state.hasWorked)
        if neverWorked, exit.cause != .stopped {
            starts.failed(nowMicros: nowMicros)
            if reason(.workers) == nil { set(.workers, exit.reason) }
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
        requeue(suspects: suspects, innocent: innocent, crash: state.isExclusive ? exit : nil)
    }

    /// Puts what a dead worker held back in line: each suspect to run alone, the others where they were.
    ///
    /// `crash` is set where the worker ran one event alone: that event is the cause.
    private mutating func requeue(suspects: [Int], innocent: [Int], crash: WorkerExit?) {
        if let crash {
            for id in suspects { crashed(id, crash) }
        } else {
            for id in suspects { events[id]?.isIsolated = true }
        }
        var unordered = [Int]()
        var ordered: [PendingEvent.Lane: [Int]] = [:]
        for id in (crash == nil ? suspects : []) + innocent {
            guard let event = events[id] else { continue }
            events[id]?.batch = 0
            if let lane = event.lane, batchers[event.input] != nil {
                ordered[lane, default: []].append(id)
            } else if event.isIsolated {
                isolated.append(id)
            } else if batchers[event.input] != nil {
                makeReady(id, input: event.input)
            } else {
                unordered.append(id)
            }
        }
        ready.prepend(contentsOf: unordered)
        for (lane, ids) in ordered { putBack(ids, in: lane) }
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
        if let error {
            set(.storage, "results cannot be written: \(error)")
            refusedOutputs += ids
            storageRetryMicros = nowMicros + Self.storageRetryMicros
            return
        }
        set(.storage, nil)
        for id in ids {
            unpublished[id] = nil
            complete(id)
        }
    }

    /// The handler's call counts as failed; trying it again would give the same.
    mutating func unpublishable(_ id: Int, reason: String) {
        guard unpublished.removeValue(forKey: id) != nil, var event = events[id] else { return }
        event.failures += 1
        events[id] = event
        status.failed += 1
        status.deadLettered += 1
        let failure = InvocationResult.Failure(type: "ResultTooLarge", message: reason)
        undelivered[id] = failure
        effects.append(.deadLetter([(id, event, failure)]))
    }

    mutating func deadLettered(_ ids: [Int], error: String?) {
        if let error {
            set(.storage, "dead letters cannot be written: \(error)")
            refusedLetters += ids
            storageRetryMicros = nowMicros + Self.storageRetryMicros
            return
        }
        set(.storage, nil)
        for id in ids {
            undelivered[id] = nil
            complete(id)
        }
    }

    /// Tries again what a full or failing log refused.
    mutating func retryStorage() {
        guard !refusedOutputs.isEmpty || !refusedLetters.isEmpty, nowMicros >= storageRetryMicros else { return }
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
