// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Groups

/// A small generator of random numbers with a seed (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

/// One group, clients that come and go, and a network and a disk that take their time; all of it in simulated time.
///
/// Clients follow the protocol as Kafka's do. What must never happen is collected in ``faults``.
struct ChurnModel {
    enum Phase: Equatable { case gone, joining, syncing, working }

    struct Client {
        var instance: String?
        var knowsHandshake: Bool
        var canSkip: Bool
        var memberID = ""
        var generation: Int32 = -1
        var partitions: [UInt8] = []
        var phase = Phase.gone
        /// Raised with every request: answers to an earlier one are not for this client any more.
        var request: UInt64 = 0
    }

    private enum Event {
        case start(Int)
        case join(Int, UInt64, GroupJoin.Request)
        case joined(Int, UInt64, GroupJoin.Answer)
        case sync(Int, UInt64, GroupSync.Request)
        case synced(Int, UInt64, GroupSync.Answer)
        case beat(Int, UInt64)
        case beaten(Int, UInt64, GroupError?)
        case tick
        case wrote
        case abandon(GroupCaller)
    }

    static let partitionCount = 32

    private(set) var clients: [Client]
    private(set) var faults: [String] = []
    private(set) var rebalances = 0
    private(set) var milliseconds: Int64 = 0
    private var group: ConsumerGroup
    private var random: SeededGenerator
    private var queue: [(at: Int64, number: UInt64, event: Event)] = []
    private var lastNumber: UInt64 = 0
    private var waiting: [GroupCaller: (client: Int, request: UInt64)] = [:]
    private var unwritten: (UInt64, StoredGroup)?
    private var writing: (UInt64, StoredGroup)?
    private var disk: [UInt8]?
    private let origin = ContinuousClock.Instant.now
    private let settings: GroupSettings
    /// Which client was told to lead a generation, and which one reads a partition in it.
    private var leaders: [Int32: Int] = [:]
    private var owners: [Int32: [UInt8: Int]] = [:]
    private var highestTold: Int32 = 0
    private var fresh = 0

    init(seed: UInt64, clients count: Int) {
        random = SeededGenerator(seed: seed)
        var settings = GroupSettings()
        settings.initialRebalanceDelay = seed % 2 == 0 ? .zero : .milliseconds(100)
        self.settings = settings
        group = ConsumerGroup(name: "g", settings: settings)
        clients = (0..<count).map { index in
            Client(
                instance: index % 4 == 0 ? "i\(index)" : nil,
                knowsHandshake: index % 5 != 1,
                canSkip: index % 8 == 0
            )
        }
    }

    // MARK: Driving

    /// Lets members come, go and fail for a while.
    mutating func churn(steps: Int) {
        for _ in 0..<steps {
            let index = Int.random(in: 0..<clients.count, using: &random)
            switch (clients[index].phase, Int.random(in: 0..<10, using: &random)) {
            case (.gone, 0..<7): send(.start(index), after: 0)
            case (.gone, _): break
            case (_, 0..<2): leave(index)
            case (_, 2..<4): crash(index)
            case (_, 4) where Int.random(in: 0..<4, using: &random) == 0: restartEngine()
            default: break
            }
            run(for: Int64.random(in: 0...1500, using: &random))
        }
    }

    /// Starts everybody who is gone.
    mutating func startAll() {
        for index in clients.indices where clients[index].phase == .gone { send(.start(index), after: 0) }
    }

    mutating func run(for duration: Int64) {
        let end = milliseconds + duration
        while let index = queue.indices.min(by: { (queue[$0].at, queue[$0].number) < (queue[$1].at, queue[$1].number) }
        ),
            queue[index].at <= end
        {
            let next = queue.remove(at: index)
            milliseconds = next.at
            handle(next.event)
        }
        milliseconds = end
    }

    /// What is wrong once nobody has come or gone for a while.
    func finalFaults() -> [String] {
        var found = faults
        if group.state != .stable { found.append("the group is \(group.state)") }
        if !waiting.isEmpty { found.append("\(waiting.count) callers were never answered") }
        for (index, client) in clients.enumerated() {
            if client.phase != .working { found.append("client \(index) is \(client.phase)") }
            if client.generation != group.generation { found.append("client \(index) is in \(client.generation)") }
        }
        let all = clients.flatMap(\.partitions).sorted()
        if all != (0..<Self.partitionCount).map({ UInt8($0) }) { found.append("partitions read: \(all)") }
        if group.memberCount != clients.count { found.append("\(group.memberCount) members") }
        return found
    }

    private var now: GroupTime {
        GroupTime(instant: origin + .milliseconds(milliseconds), wallMilliseconds: milliseconds)
    }

    private mutating func send(_ event: Event, after delay: Int64) {
        lastNumber += 1
        queue.append((milliseconds + delay, lastNumber, event))
    }

    /// Mostly short, sometimes long.
    private mutating func delay() -> Int64 {
        Int.random(in: 0..<20, using: &random) == 0
            ? Int64.random(in: 0...4000, using: &random) : Int64.random(in: 0...50, using: &random)
    }

    // MARK: Faults put in

    private mutating func leave(_ index: Int) {
        let client = clients[index]
        retire(index)
        guard !client.memberID.isEmpty else { return }
        _ = group.leave([.init(memberID: client.memberID, instanceID: client.instance)], now: now)
        settle()
    }

    private mutating func crash(_ index: Int) {
        let seesIt = Bool.random(using: &random)
        let broken = waiting.filter { $0.value.client == index }.keys.sorted { $0.number < $1.number }
        for caller in broken where seesIt { send(.abandon(caller), after: delay()) }
        retire(index)
    }

    private mutating func retire(_ index: Int) {
        clients[index].phase = .gone
        clients[index].request += 1
        clients[index].memberID = ""
        clients[index].generation = -1
        clients[index].partitions = []
    }

    private mutating func restartEngine() {
        // What was on its way to disk may or may not have come there.
        if let writing, Bool.random(using: &random) { disk = writing.1.encode() }
        writing = nil
        unwritten = nil
        group = ConsumerGroup(name: "g", settings: settings)
        if let disk {
            guard let stored = try? StoredGroup(decoding: disk) else {
                faults.append("the stored group cannot be read")
                return
            }
            group = ConsumerGroup(name: "g", settings: settings, restoring: stored, now: now)
        }
        let broken = waiting.values.map(\.client)
        waiting = [:]
        for index in Set(broken).sorted() where clients[index].phase != .gone { reconnect(index) }
        settle()
    }

    private mutating func reconnect(_ index: Int) {
        if clients[index].phase == .syncing { sendSync(index, assignments: []) } else { sendJoin(index) }
    }

    // MARK: Clients

    private mutating func sendJoin(_ index: Int) {
        clients[index].phase = .joining
        clients[index].partitions = []
        clients[index].request += 1
        let client = clients[index]
        let request = GroupHarness.request(
            client.memberID,
            instance: client.instance,
            client: "client-\(index)",
            protocols: index % 3 == 0 ? ["range", "roundrobin"] : ["roundrobin", "range"],
            session: .seconds(10),
            rebalance: .seconds(30),
            requiresKnownMember: client.knowsHandshake,
            canSkip: client.canSkip
        )
        send(.join(index, client.request, request), after: delay())
    }

    private mutating func sendSync(_ index: Int, assignments: [GroupSync.Assignment]) {
        clients[index].phase = .syncing
        clients[index].request += 1
        let client = clients[index]
        let request = GroupSync.Request(
            group: "g",
            generation: client.generation,
            memberID: client.memberID,
            instanceID: client.instance,
            assignments: assignments
        )
        send(.sync(index, client.request, request), after: delay())
    }

    private mutating func handle(_ event: Event) {
        switch event {
        case .start(let index):
            if clients[index].phase == .gone { sendJoin(index) }
        case .join(let index, let number, let request):
            lastNumber += 1
            fresh += 1
            let caller = GroupCaller(lastNumber)
            waiting[caller] = (index, number)
            group.join(request, freshID: "m\(fresh)", caller: caller, now: now)
        case .sync(let index, let number, let request):
            lastNumber += 1
            let caller = GroupCaller(lastNumber)
            waiting[caller] = (index, number)
            group.sync(request, caller: caller, now: now)
        case .joined(let index, let number, let answer):
            if clients[index].request == number { joined(index, answer) }
        case .synced(let index, let number, let answer):
            if clients[index].request == number { synced(index, answer) }
        case .beat(let index, let number):
            guard clients[index].request == number else { return }
            let client = clients[index]
            let identity = GroupIdentity(
                generation: client.generation,
                memberID: client.memberID,
                instanceID: client.instance
            )
            send(.beaten(index, number, group.heartbeat(identity, now: now)), after: delay())
        case .beaten(let index, let number, let error):
            guard clients[index].request == number else { return }
            if let error { recover(index, error) } else { send(.beat(index, number), after: 2000) }
        case .tick: group.tick(now: now)
        case .wrote: wrote()
        case .abandon(let caller):
            if waiting.removeValue(forKey: caller) != nil { group.abandon(caller, now: now) }
        }
        settle()
    }

    private mutating func joined(_ index: Int, _ answer: GroupJoin.Answer) {
        if let error = answer.error {
            if error == .memberIDRequired { clients[index].memberID = answer.memberID }
            return recover(index, error)
        }
        clients[index].memberID = answer.memberID
        clients[index].generation = answer.generation
        guard answer.leader == answer.memberID, !answer.skipsAssignment else {
            return sendSync(index, assignments: [])
        }
        var parts = answer.members.map { GroupSync.Assignment(memberID: $0.memberID, bytes: []) }
        for partition in 0..<Self.partitionCount where !parts.isEmpty {
            parts[partition % parts.count].bytes.append(UInt8(partition))
        }
        sendSync(index, assignments: parts)
    }

    private mutating func synced(_ index: Int, _ answer: GroupSync.Answer) {
        if let error = answer.error { return recover(index, error) }
        clients[index].phase = .working
        clients[index].partitions = answer.assignment
        send(.beat(index, clients[index].request), after: 2000)
    }

    private mutating func recover(_ index: Int, _ error: GroupError) {
        switch error {
        case .unknownMember, .illegalGeneration:
            clients[index].memberID = error == .unknownMember ? "" : clients[index].memberID
            sendJoin(index)
        case .rebalanceInProgress, .memberIDRequired: sendJoin(index)
        case .coordinatorNotAvailable:
            retire(index)
            send(.start(index), after: 1000)
        case .fencedInstance: retire(index)
        default: faults.append("client \(index) was refused with \(error)")
        }
    }

    // MARK: Server

    private mutating func settle() {
        for effect in group.takeEffects() {
            switch effect {
            case .join(let caller, let answer):
                guard let from = waiting.removeValue(forKey: caller) else { continue }
                check(answer, for: from.client)
                send(.joined(from.client, from.request, answer), after: delay())
            case .sync(let caller, let answer):
                guard let from = waiting.removeValue(forKey: caller) else { continue }
                if answer.error == nil { check(answer, for: from.client) }
                send(.synced(from.client, from.request, answer), after: delay())
            case .store(let sequence, let group): unwritten = (sequence, group)
            }
        }
        if writing == nil, let next = unwritten {
            writing = next
            unwritten = nil
            send(.wrote, after: Int64.random(in: 0...20, using: &random))
        }
        if let deadline = group.nextDeadline {
            let (seconds, attoseconds) = (deadline - origin).components
            let at = max(milliseconds, seconds * 1000 + attoseconds / 1_000_000_000_000_000)
            let isPlanned = queue.contains { if case .tick = $0.event { $0.at <= at } else { false } }
            if !isPlanned { send(.tick, after: at - milliseconds) }
        }
    }

    private mutating func wrote() {
        guard let (sequence, stored) = writing else { return }
        writing = nil
        let succeeded = Int.random(in: 0..<50, using: &random) > 0
        if succeeded { disk = stored.encode() }
        group.stored(through: sequence, succeeded: succeeded, now: now)
    }

    private mutating func check(_ answer: GroupJoin.Answer, for client: Int) {
        guard answer.error == nil else { return }
        if leaders[answer.generation] == nil {
            if answer.generation < highestTold {
                faults.append("generation \(answer.generation) began after \(highestTold)")
            }
            rebalances += 1
        }
        highestTold = max(highestTold, answer.generation)
        guard answer.leader == answer.memberID else {
            leaders[answer.generation] = leaders[answer.generation] ?? -1
            return
        }
        if let leader = leaders[answer.generation], leader >= 0, leader != client, group.state != .stable {
            faults.append("generation \(answer.generation) has leaders \(leader) and \(client)")
        }
        leaders[answer.generation] = client
    }

    private mutating func check(_ answer: GroupSync.Answer, for client: Int) {
        for partition in answer.assignment {
            if let owner = owners[group.generation]?[partition], owner != client {
                faults.append("partition \(partition) in generation \(group.generation): \(owner) and \(client)")
            }
            owners[group.generation, default: [:]][partition] = client
        }
    }
}
