// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Groups

/// A group with a clock and a disk that are moved by hand.
struct GroupHarness {
    var group: ConsumerGroup
    private(set) var now = GroupTime(instant: .now, wallMilliseconds: 1_700_000_000_000)
    var joins: [GroupCaller: GroupJoin.Answer] = [:]
    var syncs: [GroupCaller: GroupSync.Answer] = [:]
    /// What is on disk.
    private(set) var disk: StoredGroup?
    /// What waits to be written, where ``writesAtOnce`` is off.
    private(set) var unwritten: [(UInt64, StoredGroup)] = []
    var writesAtOnce = true
    private var lastCaller: UInt64 = 0
    private var lastID = 0

    static var settings: GroupSettings {
        var settings = GroupSettings()
        settings.initialRebalanceDelay = .zero
        return settings
    }

    init(settings: GroupSettings = Self.settings) {
        group = ConsumerGroup(name: "g", settings: settings)
    }

    static func request(
        _ memberID: String = "",
        instance: String? = nil,
        client: String = "c",
        type: String = "consumer",
        protocols: [String] = ["range"],
        topics: [String] = ["t"],
        metadata: [UInt8]? = nil,
        session: Duration = .seconds(10),
        rebalance: Duration = .seconds(60),
        requiresKnownMember: Bool = false,
        canSkip: Bool = false
    ) -> GroupJoin.Request {
        GroupJoin.Request(
            group: "g",
            memberID: memberID,
            instanceID: instance,
            clientID: client,
            clientHost: "/127.0.0.1",
            protocolType: type,
            protocols: protocols.map {
                GroupJoin.MemberProtocol(name: $0, metadata: metadata ?? ConsumerProtocol.subscription(to: topics))
            },
            sessionTimeout: session,
            rebalanceTimeout: rebalance,
            requiresKnownMember: requiresKnownMember,
            canSkipAssignment: canSkip
        )
    }

    // MARK: Commands

    mutating func join(_ request: GroupJoin.Request) -> GroupCaller {
        lastCaller += 1
        lastID += 1
        let caller = GroupCaller(lastCaller)
        group.join(request, freshID: "m\(lastID)", caller: caller, now: now)
        settle()
        return caller
    }

    mutating func sync(
        _ memberID: String,
        _ generation: Int32,
        instance: String? = nil,
        type: String? = nil,
        name: String? = nil,
        _ assignments: [String: [UInt8]] = [:]
    ) -> GroupCaller {
        lastCaller += 1
        let caller = GroupCaller(lastCaller)
        group.sync(
            GroupSync.Request(
                group: "g",
                generation: generation,
                memberID: memberID,
                instanceID: instance,
                protocolType: type,
                protocolName: name,
                assignments: assignments.map { GroupSync.Assignment(memberID: $0.key, bytes: $0.value) }
            ),
            caller: caller,
            now: now
        )
        settle()
        return caller
    }

    mutating func heartbeat(_ memberID: String, _ generation: Int32, instance: String? = nil) -> GroupError? {
        defer { settle() }
        return group.heartbeat(
            GroupIdentity(generation: generation, memberID: memberID, instanceID: instance),
            now: now
        )
    }

    mutating func leave(_ members: GroupLeave.Member...) -> [GroupError?] {
        defer { settle() }
        return group.leave(members, now: now).members.map(\.error)
    }

    mutating func commit(
        _ memberID: String,
        _ generation: Int32,
        instance: String? = nil,
        isTransactional: Bool = false
    ) -> GroupError? {
        group.checkCommit(
            GroupIdentity(generation: generation, memberID: memberID, instanceID: instance),
            isTransactional: isTransactional,
            now: now
        )
    }

    mutating func abandon(_ caller: GroupCaller) {
        group.abandon(caller, now: now)
        settle()
    }

    /// Lets time pass, stopping at every deadline on the way.
    mutating func pass(_ duration: Duration) {
        let end = now.instant + duration
        while let deadline = group.nextDeadline, deadline <= end {
            move(to: max(deadline, now.instant))
            group.tick(now: now)
            settle()
        }
        move(to: end)
    }

    /// Ends the writes that wait.
    mutating func write(succeeded: Bool = true) {
        while let last = unwritten.last {
            unwritten = []
            if succeeded { disk = last.1 }
            group.stored(through: last.0, succeeded: succeeded, now: now)
            settle()
        }
    }

    /// Stops the engine and starts it with what is on disk.
    mutating func restart() {
        unwritten = []
        group =
            disk.map { ConsumerGroup(name: "g", settings: Self.settings, restoring: $0, now: now) }
            ?? ConsumerGroup(name: "g", settings: Self.settings)
    }

    // MARK: Shortcuts

    /// Joins the first members and gives each a one-byte assignment, its index; returns their ids, the leader first.
    mutating func stabilize(_ requests: [GroupJoin.Request]) -> [String] {
        var callers: [GroupCaller] = []
        var ids: [String] = []
        for request in requests {
            callers.append(join(request))
            ids.append("m\(lastID)")
        }
        // Whoever was answered before the others came has to come again.
        for index in requests.indices where group.state == .preparingRebalance && joins[callers[index]] != nil {
            var request = requests[index]
            request.memberID = ids[index]
            callers[index] = join(request)
        }
        let leader = group.leader ?? ""
        let parts = Dictionary(uniqueKeysWithValues: ids.enumerated().map { ($0.element, [UInt8($0.offset)]) })
        for id in ids where id != leader { _ = sync(id, group.generation) }
        _ = sync(leader, group.generation, parts)
        return [leader] + ids.filter { $0 != leader }
    }

    private mutating func move(to instant: ContinuousClock.Instant) {
        let (seconds, attoseconds) = (instant - now.instant).components
        now.wallMilliseconds += seconds * 1000 + attoseconds / 1_000_000_000_000_000
        now.instant = instant
    }

    private mutating func settle() {
        for effect in group.takeEffects() {
            switch effect {
            case .join(let caller, let answer):
                precondition(joins.updateValue(answer, forKey: caller) == nil, "a join was answered twice")
            case .sync(let caller, let answer):
                precondition(syncs.updateValue(answer, forKey: caller) == nil, "a sync was answered twice")
            case .store(let sequence, let group): unwritten.append((sequence, group))
            }
        }
        if writesAtOnce, !unwritten.isEmpty { write() }
    }
}
