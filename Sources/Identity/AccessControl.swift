// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Catalog
package import MartletCore
import Synchronization

/// The access rules that hold, and the decisions made by them.
package final class AccessControl: Sendable {
    /// Most rules there may be.
    private static let rulesMax = 10_000

    private struct State {
        var acls: [StoredKafkaACL] = []
        var rules = AccessRules([])
    }

    /// Whether rules are asked at all; where not, whoever is let in may do everything.
    package let isEnabled: Bool
    private let superUsers: Set<String>
    private let store: KafkaAccessStore
    private let metrics: MetricRegistry
    private let gate = ChangeGate()
    private let state = Mutex(State())

    /// Reads the rules of a store.
    ///
    /// `superUsers` are those who may do everything, such as `User:admin`.
    ///
    /// - Throws: `ServiceError` where they cannot be read.
    package init(
        store: KafkaAccessStore,
        isEnabled: Bool,
        superUsers: Set<String> = [],
        metrics: MetricRegistry
    ) async throws {
        self.isEnabled = isEnabled
        self.superUsers = superUsers
        self.store = store
        self.metrics = metrics
        let acls = try await store.acls()
        state.withLock { $0 = State(acls: acls, rules: AccessRules(acls.lazy.map(\.acl))) }
    }

    // MARK: Deciding

    /// Whether somebody may do something with one resource.
    package func allow(
        _ principal: Principal,
        host: String,
        _ operation: KafkaACL.Operation,
        on type: KafkaACL.ResourceType,
        _ name: String
    ) -> Bool {
        decide(principal, operation) { $0.allow(principal.text, host: host, operation, on: type, name) }
    }

    /// Whether there can be a resource of a kind that somebody may do something with.
    package func allowAny(
        _ principal: Principal,
        host: String,
        _ operation: KafkaACL.Operation,
        on type: KafkaACL.ResourceType
    ) -> Bool {
        decide(principal, operation) { $0.allowAny(principal.text, host: host, operation, on: type) }
    }

    /// Counts a refusal.
    package func denied(_ operation: KafkaACL.Operation, on type: KafkaACL.ResourceType) {
        let labels = ["resource": type.rawValue, "operation": operation.rawValue]
        metrics.counter(EngineMetrics.kafkaDenials, labels).add()
    }

    /// Whether somebody may change users and rules: where no rules are asked, that is nobody who had to log in but super users.
    package func isSuper(_ principal: Principal) -> Bool { principal.isSuper || superUsers.contains(principal.text) }

    private func decide(
        _ principal: Principal,
        _ operation: KafkaACL.Operation,
        _ rules: (AccessRules) -> Bool
    ) -> Bool {
        if principal.isReadOnly, ![.read, .describe, .describeConfigs].contains(operation) { return false }
        guard isEnabled, !isSuper(principal) else { return true }
        let held = state.withLock { $0.rules }
        return rules(held)
    }

    // MARK: Managing

    /// Every rule, oldest first.
    package func acls() -> [StoredKafkaACL] { state.withLock { $0.acls } }

    /// Adds rules, all or none; durable on return, and held from then on.
    package func add(_ acls: [KafkaACL]) async throws -> [StoredKafkaACL] {
        let acls = try acls.map { try $0.checked() }
        return try await gate.run { [self] in
            let known = Set(self.acls().map(\.acl))
            guard known.union(acls).count <= Self.rulesMax else {
                throw ServiceError(
                    .tooLarge,
                    "there would be more than \(Self.rulesMax) access rules",
                    fix: "use prefixed patterns"
                )
            }
            let stored = try await store.addACLs(acls)
            try await reload()
            return stored
        }
    }

    /// Removes the rules a filter takes; durable on return.
    package func remove(where filter: @Sendable @escaping (StoredKafkaACL) -> Bool) async throws -> [StoredKafkaACL] {
        try await gate.run { [self] in
            let found = acls().filter(filter)
            guard !found.isEmpty else { return [] }
            try await store.removeACLs(found.map(\.id))
            try await reload()
            return found
        }
    }

    private func reload() async throws {
        let acls = try await store.acls()
        let rules = AccessRules(acls.lazy.map(\.acl))
        state.withLock { $0 = State(acls: acls, rules: rules) }
    }
}

/// One change after the other, so that what is held is what was stored last.
private actor ChangeGate {
    private var last: Task<Void, Never>?

    func run<R: Sendable>(_ body: @escaping @Sendable () async throws -> R) async throws -> R {
        let before = last
        let task = Task {
            await before?.value
            return try await body()
        }
        last = Task { _ = try? await task.value }
        return try await task.value
    }
}
