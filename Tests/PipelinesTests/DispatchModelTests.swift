// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import KafkaCodec
import MartletCore
import Pipelines
import Testing
import Workers

/// Drives the core through random results, crashes, drains and restarts, and checks every step against a model of what is done.
@Suite struct DispatchModelTests {
    static let plans: [(name: String, isOrdered: Bool, batching: PipelineManifest.Batching?)] = [
        ("unordered", false, nil),
        ("ordered", true, nil),
        ("batches", false, .init(size: 7, timeoutMilliseconds: 300)),
        ("ordered batches", true, .init(size: 7, timeoutMilliseconds: 300)),
    ]

    @Test(arguments: 0..<plans.count) func everyEventEndsOnceWhateverHappens(_ index: Int) {
        let seed = UInt64.random(in: 1 ... .max)
        print("dispatch model, \(Self.plans[index].name): seed \(seed)")
        for round in 0..<30 {
            var model = DispatchModel(
                seed: seed &+ UInt64(round),
                isOrdered: Self.plans[index].isOrdered,
                batching: Self.plans[index].batching
            )
            let faults = model.run()
            #expect(faults.isEmpty, "seed \(seed), round \(round): \(faults.prefix(3))")
            if !faults.isEmpty { return }
        }
    }
}

/// SplitMix64: small, and the same everywhere for one seed.
private struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

/// The world around a core: a topic, workers, an output topic and committed positions.
private struct DispatchModel {
    private struct Open {
        var worker: String
        var request: Int
        var offsets: [Int64]
        /// Positions without result.
        var left: [Int]
        var isBatch: Bool
    }

    private static let total: Int64 = 300
    private static let keys = ["a", "b", "c", "d", "e"]

    private var random: SeededGenerator
    private let isOrdered: Bool
    private let batching: PipelineManifest.Batching?
    private var rig: DispatchRig
    private var next: Int64 = 0
    private var gateIsOpen = true
    private var alive: Set<String> = []
    private var starting: [String] = []
    private var dying: [(id: String, cause: WorkerExit.Cause)] = []
    private var open: [Open] = []
    private var publishing: [[Int]] = []
    private var lettering: [[(id: Int, event: PendingEvent, failure: InvocationResult.Failure)]] = []
    private var offsetOfOutput: [Int: Int64] = [:]
    /// Done since the last restart, and done as far as was committed.
    private var done: Set<Int64> = []
    private var committed: Int64 = 0
    private var state = CommitState()
    private var faults: [String] = []
    private var isCalm = false

    init(seed: UInt64, isOrdered: Bool, batching: PipelineManifest.Batching?) {
        random = SeededGenerator(state: seed)
        self.isOrdered = isOrdered
        self.batching = batching
        rig = DispatchRig(Self.plan(isOrdered, batching))
    }

    private static func plan(_ isOrdered: Bool, _ batching: PipelineManifest.Batching?) -> DeploymentPlan {
        DispatchRig.plan(
            retries: 2,
            isOrdered: isOrdered,
            batching: batching,
            workers: 0...3,
            concurrency: 3,
            timeout: 5,
            output: "out"
        )
    }

    mutating func run() -> [String] {
        for _ in 0..<1500 where faults.isEmpty { step() }
        isCalm = true
        for _ in 0..<20_000 where faults.isEmpty && !isOver { step() }
        if faults.isEmpty, !isOver {
            faults.append("not over: \(Self.total - Int64(done.count)) of \(Self.total) left, next \(next)")
        }
        commit()
        if faults.isEmpty, committed != Self.total || state != CommitState() {
            faults.append("committed \(committed) with \(state) at the end")
        }
        return faults
    }

    private var isOver: Bool { done.count == Int(Self.total) && publishing.isEmpty && lettering.isEmpty }

    private mutating func step() {
        let choice = Int.random(in: 0..<(isCalm ? 60 : 100), using: &random)
        switch choice {
        case ..<15: feed()
        case ..<30: rig.tick(after: Int64.random(in: 1_000...400_000, using: &random))
        case ..<35: begin()
        case ..<50: finishSome()
        case ..<57: answerTopics()
        case ..<60: commit()
        case ..<80: finishSome()
        case ..<86: die()
        case ..<90: report()
        case ..<94: rig.tick(after: Int64.random(in: 1_000_000...9_000_000, using: &random))
        case ..<97: drainAndRestart()
        default: restart()
        }
        settle()
    }

    // MARK: What happens

    private mutating func feed() {
        guard gateIsOpen, next < Self.total else { return }
        let count = min(Int64.random(in: 1...25, using: &random), Self.total - next)
        let keys = (next..<next + count).map { offset -> String? in Self.keys[Int(offset * 7 % 5)] }
        rig.feed(DispatchRig.records(from: next, keys: keys), next: next + count)
        next += count
    }

    private mutating func begin() {
        guard !starting.isEmpty else { return }
        let id = starting.removeFirst()
        if !isCalm, Int.random(in: 0..<6, using: &random) == 0 {
            rig.take(.workerNotStarted(id: id, reason: "no"))
        } else {
            alive.insert(id)
            rig.ready(id)
        }
    }

    private mutating func finishSome() {
        guard let index = open.indices.randomElement(using: &random), alive.contains(open[index].worker) else { return }
        var left = open[index].left.shuffled(using: &random)
        let taken = open[index].isBatch ? left : Array(left.prefix(Int.random(in: 1...left.count, using: &random)))
        left.removeFirst(taken.count)
        let shared = status()
        let results = taken.map { position in
            let status = open[index].isBatch ? shared : status()
            let hasOutput = status == .ok && Bool.random(using: &random)
            if status == .ok, !hasOutput { complete(open[index].offsets[position]) }
            return DispatchRig.result(
                position,
                status,
                micros: Int64.random(in: 10...50_000, using: &random),
                outputs: hasOutput ? [.init(data: [0x31])] : []
            )
        }
        let sent = DispatchRig.Sent(worker: open[index].worker, request: open[index].request, offsets: [])
        open[index].left = left
        if left.isEmpty { open.remove(at: index) }
        rig.results(sent, results)
    }

    private mutating func status() -> InvocationResult.Status {
        switch Int.random(in: 0..<100, using: &random) {
        case ..<(isCalm ? 100 : 80): .ok
        case ..<97: .error
        default: .timeout
        }
    }

    private mutating func die() {
        guard let id = alive.sorted().randomElement(using: &random) else { return }
        dying.append((id, .signalled(11)))
    }

    private mutating func report() {
        guard let open = open.randomElement(using: &random) else { return }
        let running = open.left.prefix(3).map { (index: $0, milliseconds: Int64(5)) }
        rig.take(.worker(id: open.worker, .line(request: open.request, .running(running))))
    }

    private mutating func answerTopics() {
        let fails = !isCalm && Int.random(in: 0..<4, using: &random) == 0
        if let ids = publishing.popLast() {
            if !fails { for id in ids { complete(offsetOfOutput[id] ?? -1) } }
            rig.take(.published(ids, error: fails ? "diskFull" : nil))
        } else if let letters = lettering.popLast() {
            if !fails { for letter in letters { complete(letter.event.record.offset) } }
            rig.take(.deadLettered(letters.map(\.id), error: fails ? "diskFull" : nil))
        }
    }

    private mutating func commit() {
        guard let position = rig.commit() else { return }
        if position.offset < committed { faults.append("commit went back from \(committed) to \(position.offset)") }
        let claimed = Set(0..<position.offset).union(position.state.finished.flatMap(Array.init))
        if let early = claimed.subtracting(done).min() { faults.append("\(early) committed before it was done") }
        committed = position.offset
        state = CommitState(metadata: position.state.metadata)
    }

    private mutating func drainAndRestart() {
        rig.take(.drain)
        settle()
        for _ in 0..<4000 where !rig.core.isDrained && faults.isEmpty {
            switch Int.random(in: 0..<4, using: &random) {
            case 0: rig.tick(after: 100_000)
            case 1: answerTopics()
            default: finishSome()
            }
            settle()
        }
        if !rig.core.isDrained { faults.append("does not drain") }
        commit()
        restart()
    }

    /// A new core from what is committed; what was not is forgotten.
    private mutating func restart() {
        let now = rig.now
        rig = DispatchRig(Self.plan(isOrdered, batching), committed: committed, state: state)
        rig.now = now
        next = committed
        gateIsOpen = true
        alive = []
        starting = []
        dying = []
        open = []
        publishing = []
        lettering = []
        offsetOfOutput = [:]
        done = Set(0..<committed).union(state.finished.flatMap(Array.init))
    }

    /// Looks at what was caused, and lets workers that are to die do so at once.
    private mutating func settle() {
        look()
        while let (id, cause) = dying.popLast() {
            guard alive.remove(id) != nil else { continue }
            open.removeAll { $0.worker == id }
            rig.exit(id, cause)
            look()
        }
    }

    // MARK: What is checked

    private mutating func complete(_ offset: Int64) {
        if !done.insert(offset).inserted { faults.append("\(offset) done twice") }
    }

    private mutating func look() {
        let effects = rig.effects
        rig.effects = []
        for effect in effects {
            switch effect {
            case .startWorker(let id): starting.append(id)
            case .stopWorker(let id): dying.append((id, .stopped))
            case .killWorker(let id, let cause): dying.append((id, cause))
            case .send(let worker, let request, let events): sent(worker, request, events)
            case .publish(let results):
                for result in results { offsetOfOutput[result.id] = result.event.record.offset }
                publishing.append(results.map(\.id))
            case .deadLetter(let letters):
                for letter in letters where letter.event.failures != 3 {
                    faults.append("\(letter.event.record.offset) given up after \(letter.event.failures) failures")
                }
                lettering.append(letters)
            case .gate(let isOpen): gateIsOpen = isOpen
            case .finished, .workerFailed, .workerCrashed: break
            }
        }
    }

    private mutating func sent(_ worker: String, _ request: Int, _ events: [PendingEvent]) {
        let offsets = events.map(\.record.offset)
        if !alive.contains(worker) { faults.append("\(offsets) sent to \(worker), which is not there") }
        let held = Set(open.flatMap { open in open.left.map { open.offsets[$0] } })
        for offset in offsets where done.contains(offset) || held.contains(offset) {
            faults.append("\(offset) sent although it is \(done.contains(offset) ? "done" : "with a worker")")
        }
        if events.contains(where: \.isIsolated), events.count > 1 || open.contains(where: { $0.worker == worker }) {
            faults.append("\(offsets) not alone at \(worker)")
        }
        if isOrdered { checkOrder(offsets) }
        open.append(
            Open(
                worker: worker,
                request: request,
                offsets: offsets,
                left: Array(offsets.indices),
                isBatch: (events.first?.batch ?? 0) != 0
            )
        )
    }

    private mutating func checkOrder(_ offsets: [Int64]) {
        for (position, offset) in offsets.enumerated() {
            let before = (0..<offset).filter { batching != nil || $0 * 7 % 5 == offset * 7 % 5 }
            let allowed = batching == nil ? [] : Set(offsets.prefix(position))
            if let skipped = before.first(where: { !done.contains($0) && !allowed.contains($0) }) {
                faults.append("\(offset) sent before \(skipped) was done")
            }
        }
    }
}
