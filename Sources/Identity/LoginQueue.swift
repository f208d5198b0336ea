// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Which login is checked when, so that guessing takes long however many connections guess; no I/O and no clock of its own.
///
/// Each failure makes the next check of the same user from the same place wait longer, and many failures those of everybody from that
/// place and of that user from everywhere; the latter two leave out users who have logged in from there lately. What waits has a bound.
/// Users that do not exist are treated as those that do.
package struct LoginQueue: Sendable {
    /// A moment of the clock that the caller has.
    package typealias Instant = ContinuousClock.Instant

    /// One login, from its arrival to its end.
    package struct Turn: Sendable {
        /// Its number, which no other has.
        package let number: UInt64
        fileprivate let place: Int
        /// Nil where only the check says who it is.
        fileprivate let user: Int?
        fileprivate let pair: Int
        fileprivate let isKnown: Bool
    }

    /// What becomes of a login that arrives.
    package enum Arrival: Sendable {
        /// It is checked now.
        case goes(Turn)
        /// It is checked when ``ready(now:)`` names it.
        case waits(Turn)
        /// It is not checked: too much waits already.
        case refused
    }

    /// How a check ended.
    package enum Outcome: Sendable {
        case passed
        case failed
        /// Nothing was found out.
        case undecided
    }

    /// Checks at work at once, of one place and of all.
    package static let atOnceMax = (place: 4, all: 32)
    /// Most checks of bearer tokens among these: each may wait for the issuer's keys, and passwords are not to wait for that.
    package static let tokensAtOnceMax = 16
    /// Logins that wait, of one place and of all; a quarter of that is kept for users who have logged in from there lately.
    package static let waitingMax = (place: 256, all: 1024)
    /// No login waits that would have to wait longer.
    package static let waitMax = Duration.seconds(16)
    /// For how long is remembered who has logged in from where.
    private static let knownFor = Duration.seconds(24 * 3600)
    /// Places, users, and users at places that are remembered, of each so many.
    package static let remembered = 10_000

    private var places = FailureTable(free: 20, forgivenAfter: .seconds(3), delayMax: .seconds(4))
    private var users = FailureTable(free: 20, forgivenAfter: .seconds(3), delayMax: .seconds(2))
    private var pairs = FailureTable(free: 0, forgivenAfter: .seconds(60), delayMax: .seconds(8))
    /// When users last logged in from places.
    private var known: [Int: Instant] = [:]
    /// In the order of their arrival.
    private var waiting: [Turn] = []
    private var atWork = 0
    private var tokensAtWork = 0
    private var lastNumber: UInt64 = 0

    /// Begins with nobody.
    package init() {}

    /// How many logins wait.
    package var waitingCount: Int { waiting.count }
    /// Failures remembered, of all kinds together.
    package var rememberedCount: Int { places.count + users.count + pairs.count + known.count }

    /// A login wants to be checked; `user` is nil where only the check itself says who it is.
    package mutating func arrive(place: String, user: String?, now: Instant) -> Arrival {
        lastNumber += 1
        let pair = Self.key("\(place)\n", user)
        let turn = Turn(
            number: lastNumber,
            place: Self.key(place, nil),
            user: user.map { Self.key("", $0) },
            pair: pair,
            isKnown: known[pair].map { now - $0 < Self.knownFor } ?? false
        )
        // Else whoever arrives all the time would be in front of those who wait for the same moment.
        let isBehind = slowing(turn, now).contains { $0.waiting > 0 }
        if !isBehind, case .now = start(turn, now) {
            begin(turn)
            return .goes(turn)
        }
        var bound = Self.waitingMax
        if !turn.isKnown { bound = (place: bound.place * 3 / 4, all: bound.all * 3 / 4) }
        guard places[turn.place].waiting < bound.place, waiting.count < bound.all,
            pairs.wait(turn.pair, now) <= Self.waitMax,
            turn.isKnown || places.wait(turn.place, now) <= Self.waitMax,
            turn.isKnown || turn.user.map({ users.wait($0, now) <= Self.waitMax }) ?? true
        else { return .refused }
        waiting.append(turn)
        change(turn) { $0.waiting += 1 }
        return .waits(turn)
    }

    /// Takes out those that are checked now.
    ///
    /// - Returns: These, and when there will be more if nothing ends before; nil where nothing waits for a time.
    package mutating func ready(now: Instant) -> (turns: [Turn], next: Instant?) {
        var (turns, rest): ([Turn], [Turn]) = ([], [])
        var next: Instant?
        for turn in waiting {
            switch start(turn, now) {
            case .now:
                change(turn) { $0.waiting -= 1 }
                begin(turn)
                turns.append(turn)
                continue
            case .at(let instant): next = min(next ?? instant, instant)
            case .afterOthers: break
            }
            rest.append(turn)
        }
        waiting = rest
        return (turns, next)
    }

    /// A login that waits is given up; false where it does not wait.
    package mutating func leave(_ turn: Turn) -> Bool {
        guard let place = waiting.firstIndex(where: { $0.number == turn.number }) else { return false }
        waiting.remove(at: place)
        change(turn) { $0.waiting -= 1 }
        return true
    }

    /// A check has ended.
    package mutating func end(_ turn: Turn, _ outcome: Outcome, now: Instant) {
        atWork -= 1
        if turn.user == nil { tokensAtWork -= 1 }
        change(turn) { $0.atWork -= 1 }
        switch outcome {
        case .passed:
            // Those of the place and the user stay: else who has one account could guess at others for ever.
            pairs.forgive(turn.pair)
            // A token says nothing of who could guess at others: its place stays as slow as it is.
            guard turn.user != nil else { return }
            if known.count >= Self.remembered, known[turn.pair] == nil { forgetKnown() }
            known[turn.pair] = now
        case .failed:
            places.fail(turn.place, now)
            if let user = turn.user { users.fail(user, now) }
            pairs.fail(turn.pair, now)
        case .undecided: break
        }
    }

    private enum Start {
        case now
        case at(Instant)
        case afterOthers
    }

    private func start(_ turn: Turn, _ now: Instant) -> Start {
        guard turn.user != nil || tokensAtWork < Self.tokensAtOnceMax else { return .afterOthers }
        guard atWork < Self.atOnceMax.all, places[turn.place].atWork < Self.atOnceMax.place else { return .afterOthers }
        let slowing = slowing(turn, now)
        guard slowing.allSatisfy({ $0.atWork == 0 }) else { return .afterOthers }
        let at = slowing.compactMap(\.notBefore).max() ?? now
        return at > now ? .at(at) : .now
    }

    /// What makes a login wait: then one is checked at a time.
    private func slowing(_ turn: Turn, _ now: Instant) -> [FailureTable.Entry] {
        var found: [FailureTable.Entry] = []
        if pairs.delay(turn.pair, now) > .zero { found.append(pairs[turn.pair]) }
        guard !turn.isKnown else { return found }
        if places.delay(turn.place, now) > .zero { found.append(places[turn.place]) }
        if let user = turn.user, users.delay(user, now) > .zero { found.append(users[user]) }
        return found
    }

    private mutating func begin(_ turn: Turn) {
        atWork += 1
        if turn.user == nil { tokensAtWork += 1 }
        change(turn) { $0.atWork += 1 }
    }

    private mutating func change(_ turn: Turn, _ body: (inout FailureTable.Entry) -> Void) {
        places.change(turn.place, body)
        if let user = turn.user { users.change(user, body) }
        pairs.change(turn.pair, body)
    }

    private mutating func forgetKnown() {
        for (key, _) in known.sorted(by: { $0.value < $1.value }).prefix(Self.remembered / 8) { known[key] = nil }
    }

    /// Names as long as a client likes take no more room than others, and nobody can find two with the same key.
    private static func key(_ place: String, _ user: String?) -> Int {
        var hasher = Hasher()
        hasher.combine(place)
        hasher.combine(user)
        return hasher.finalize()
    }
}

/// Failures of logins that have something in common.
private struct FailureTable: Sendable {
    typealias Instant = ContinuousClock.Instant

    struct Entry: Sendable {
        var failures = 0
        var failedAt: Instant?
        var notBefore: Instant?
        var atWork = 0
        var waiting = 0

        var isInUse: Bool { atWork > 0 || waiting > 0 }
    }

    private static let delayMin = Duration.milliseconds(500)

    /// Failures that delay nothing.
    let free: Int
    /// After which time one failure is forgiven.
    let forgivenAfter: Duration
    let delayMax: Duration
    private var entries: [Int: Entry] = [:]

    init(free: Int, forgivenAfter: Duration, delayMax: Duration) {
        self.free = free
        self.forgivenAfter = forgivenAfter
        self.delayMax = delayMax
    }

    var count: Int { entries.count }

    subscript(key: Int) -> Entry { entries[key] ?? Entry() }

    /// How far checks are apart now.
    func delay(_ key: Int, _ now: Instant) -> Duration {
        let failures = failures(self[key], now)
        return failures <= free ? .zero : min(delayMax, Self.delayMin * (1 << min(failures - free - 1, 8)))
    }

    /// How long a login that arrives now would wait if all in front of it fail.
    func wait(_ key: Int, _ now: Instant) -> Duration {
        let entry = self[key]
        let delay = delay(key, now)
        guard delay > .zero else { return .zero }
        return max(.zero, (entry.notBefore ?? now) - now) + delay * (entry.waiting + entry.atWork)
    }

    mutating func change(_ key: Int, _ body: (inout Entry) -> Void) {
        var entry = self[key]
        body(&entry)
        entries[key] = entry.isInUse || entry.failures > 0 ? entry : nil
    }

    mutating func fail(_ key: Int, _ now: Instant) {
        if entries.count >= LoginQueue.remembered, entries[key] == nil { forget() }
        // More of them slow nothing further, and would only be forgiven later.
        let failures = min(free + 6, failures(self[key], now) + 1)
        change(key) { entry in
            entry.failures = failures
            entry.failedAt = now
        }
        let notBefore = now + delay(key, now)
        change(key) { $0.notBefore = notBefore }
    }

    mutating func forgive(_ key: Int) {
        change(key) { entry in
            entry.failures = 0
            entry.failedAt = nil
            entry.notBefore = nil
        }
    }

    private func failures(_ entry: Entry, _ now: Instant) -> Int {
        guard let failedAt = entry.failedAt else { return 0 }
        return max(0, entry.failures - Int(max(.zero, now - failedAt) / forgivenAfter))
    }

    /// Makes room: those go whose last failure is the longest ago, as they have the least to wait.
    private mutating func forget() {
        let idle = entries.lazy.filter { !$0.value.isInUse }.map { (key: $0.key, failedAt: $0.value.failedAt) }
        let oldest = idle.sorted { one, other in
            guard let first = one.failedAt, let second = other.failedAt else { return one.failedAt == nil }
            return first < second
        }
        for one in oldest.prefix(LoginQueue.remembered / 8) { entries[one.key] = nil }
    }
}
