// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DequeModule
import KafkaCodec
import MartletCore
import Workers

extension DispatchCore {
    /// Events in one request; more would delay the first of them.
    private static let requestEventsMax = 256
    private static let requestBytesMax = 4 << 20

    /// Sends ready events to workers that have room.
    mutating func dispatch() {
        guard !isDraining else { return }
        dispatchIsolated()
        dispatchBatches()
        while !ready.isEmpty, let id = roomiest() {
            let room = workers[id]?.room(concurrency: plan.workerConcurrency) ?? 0
            var batch = [Int]()
            var bytes = 0
            while batch.count < min(room, Self.requestEventsMax), bytes < Self.requestBytesMax,
                let next = ready.popFirst()
            {
                bytes += events[next]?.record.value?.count ?? 0
                batch.append(next)
            }
            guard !batch.isEmpty else { return }
            send(batch, to: id)
        }
        if needsWorker, workers.isEmpty { startWorker() }
    }

    /// Whether anything waits for a worker.
    var needsWorker: Bool {
        !ready.isEmpty || !isolated.isEmpty || batchers.values.contains { $0.count > 0 }
    }

    private mutating func dispatchBatches() {
        for input in batchers.keys.sorted() {
            while let id = roomiest(), let batch = batchers[input]?.take(nowMicros: nowMicros) {
                nextBatch += 1
                for event in batch { events[event]?.batch = nextBatch }
                send(batch, to: id)
            }
        }
    }

    /// An event that was there when a worker died runs alone, so that the next death names its cause.
    private mutating func dispatchIsolated() {
        while let id = isolated.first {
            if let idle = workers.first(where: {
                $0.value.phase == .ready && $0.value.inFlight == 0 && !$0.value.isExclusive
            }) {
                isolated.removeFirst()
                workers[idle.key]?.isReserved = false
                workers[idle.key]?.isExclusive = true
                send([id], to: idle.key)
                continue
            }
            let reserved = workers.contains { $0.value.isReserved || $0.value.isExclusive }
            if !reserved, let busy = workers.first(where: { $0.value.phase == .ready }) {
                workers[busy.key]?.isReserved = true
            }
            return
        }
    }

    private func roomiest() -> String? {
        var best: (id: String, room: Int)?
        for (id, worker) in workers {
            let room = worker.room(concurrency: plan.workerConcurrency)
            if room > (best?.room ?? 0) { best = (id, room) }
        }
        return best?.id
    }

    private mutating func send(_ ids: [Int], to worker: String) {
        nextRequest += 1
        var sent = [PendingEvent]()
        sent.reserveCapacity(ids.count)
        let ids = ids.filter { events[$0] != nil }
        guard !ids.isEmpty else { return }
        for id in ids {
            guard var event = events[id] else { continue }
            event.sentMicros = nowMicros
            event.spanID = spans.next()
            events[id] = event
            sent.append(event)
        }
        workers[worker]?.requests[nextRequest] = WorkerState.Request(ids: ids, unfinished: ids.count)
        if workers[worker]?.inFlight == 0 { workers[worker]?.lastHeardMicros = nowMicros }
        workers[worker]?.inFlight += ids.count
        workers[worker]?.lastActiveMicros = nowMicros
        effects.append(.send(worker: worker, request: nextRequest, events: sent))
    }
}
