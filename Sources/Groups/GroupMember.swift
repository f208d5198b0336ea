// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// A member of a consumer group.
struct GroupMember: Sendable {
    var id: String
    var instanceID: String?
    var clientID: String
    var clientHost: String
    var sessionTimeout: Duration
    var rebalanceTimeout: Duration
    var protocols: [GroupJoin.MemberProtocol]
    var assignment: [UInt8] = []
    /// Earlier members have lower numbers; a takeover keeps the number.
    var order: UInt64
    /// Whether the first join was not answered yet: the client sends no heartbeats.
    var isNew = true
    /// Whether the client can name itself, by its id or instance id, after a lost connection.
    var canReturn = true
    /// When the member counts as gone; nil while the coordinator owes it an answer.
    var heartbeatDeadline: ContinuousClock.Instant?
    var joinCaller: GroupCaller?
    /// Whether the connection broke on which the member waited for its join, and nothing was heard of it since.
    var hasVanished = false
    var syncCaller: GroupCaller?

    var metadataBytes: Int { protocols.reduce(0) { $0 + $1.metadata.count + $1.name.utf8.count } }

    /// About what it takes in memory.
    var byteCount: Int {
        let names = id.utf8.count + (instanceID?.utf8.count ?? 0) + clientID.utf8.count + clientHost.utf8.count
        return 512 + names + metadataBytes + assignment.count
    }

    func metadata(of name: String?) -> [UInt8] {
        protocols.first { $0.name == name }?.metadata ?? []
    }

    mutating func update(_ request: GroupJoin.Request, _ settings: GroupSettings) {
        protocols = request.protocols
        sessionTimeout = request.sessionTimeout
        rebalanceTimeout = min(max(request.rebalanceTimeout, .zero), settings.rebalanceTimeoutMax)
        clientID = request.clientID
        clientHost = request.clientHost
    }

    init(id: String, order: UInt64, _ request: GroupJoin.Request, _ settings: GroupSettings) {
        self.id = id
        self.order = order
        instanceID = request.instanceID
        clientID = request.clientID
        clientHost = request.clientHost
        sessionTimeout = request.sessionTimeout
        rebalanceTimeout = min(max(request.rebalanceTimeout, .zero), settings.rebalanceTimeoutMax)
        protocols = request.protocols
    }

    init(_ stored: StoredGroup.Member, order: UInt64) {
        id = stored.id
        self.order = order
        instanceID = stored.instanceID
        clientID = stored.clientID
        clientHost = stored.clientHost
        sessionTimeout = .milliseconds(stored.sessionTimeoutMilliseconds)
        rebalanceTimeout = .milliseconds(stored.rebalanceTimeoutMilliseconds)
        protocols = stored.protocols
        assignment = stored.assignment
        isNew = false
    }
}
