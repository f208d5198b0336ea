// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
package import MartletCore

/// Access rules, arranged so that a decision looks at few of them; no I/O.
///
/// Kafka's way of deciding: a rule that denies wins over any that allows, and what no rule allows is denied.
package struct AccessRules: Sendable {
    /// Rules of one kind of resource.
    private struct Rules: Sendable {
        var literal: [String: [KafkaACL]] = [:]
        var prefixed: [KafkaACL] = []
        /// Those for every name.
        var wildcard: [KafkaACL] = []
    }

    private var rules: [KafkaACL.ResourceType: Rules] = [:]
    /// Whether any of them is about one address.
    private var namesAddresses = false

    /// Arranges rules.
    package init(_ acls: some Sequence<KafkaACL>) {
        for var acl in acls {
            acl.resourceName = acl.resourceName.inOneForm
            acl.host = acl.normalisedHost
            namesAddresses = namesAddresses || acl.host != KafkaACL.anyHost
            switch acl.pattern {
            case .prefixed: rules[acl.resourceType, default: Rules()].prefixed.append(acl)
            case .literal where acl.resourceName == "*": rules[acl.resourceType, default: Rules()].wildcard.append(acl)
            case .literal:
                rules[acl.resourceType, default: Rules()].literal[acl.resourceName, default: []].append(acl)
            }
        }
    }

    /// Whether somebody may do something with one resource.
    package func allow(
        _ principal: String,
        host: String,
        _ operation: KafkaACL.Operation,
        on type: KafkaACL.ResourceType,
        _ name: String
    ) -> Bool {
        guard let rules = rules[type] else { return false }
        let (name, host) = (name.inOneForm, normalised(host))
        var isAllowed = false
        func look(at acl: KafkaACL) -> Bool {
            guard acl.concerns(principal, host) else { return false }
            switch acl.permission {
            case .deny: return acl.operation == .all || acl.operation == operation
            case .allow:
                isAllowed = isAllowed || acl.allows(operation)
                return false
            }
        }
        for acl in rules.literal[name] ?? [] where look(at: acl) { return false }
        for acl in rules.wildcard where look(at: acl) { return false }
        for acl in rules.prefixed where name.utf8.starts(with: acl.resourceName.utf8) && look(at: acl) { return false }
        return isAllowed
    }

    /// Whether there can be a resource of a kind that somebody may do something with.
    package func allowAny(
        _ principal: String,
        host: String,
        _ operation: KafkaACL.Operation,
        on type: KafkaACL.ResourceType
    ) -> Bool {
        guard let rules = rules[type] else { return false }
        let host = normalised(host)
        func denies(_ acl: KafkaACL) -> Bool {
            acl.permission == .deny && acl.concerns(principal, host)
                && (acl.operation == .all || acl.operation == operation)
        }
        func allows(_ acl: KafkaACL) -> Bool {
            acl.permission == .allow && acl.concerns(principal, host) && acl.allows(operation)
        }
        guard !rules.wildcard.contains(where: denies) else { return false }
        if rules.wildcard.contains(where: allows) { return true }
        let denied = rules.prefixed.filter(denies)
        let isOpen = rules.prefixed.contains { acl in
            allows(acl) && !denied.contains { acl.resourceName.utf8.starts(with: $0.resourceName.utf8) }
        }
        return isOpen
            || rules.literal.contains {
                $0.value.contains(where: allows) && allow(principal, host: host, operation, on: type, $0.key)
            }
    }
}

extension AccessRules {
    private func normalised(_ host: String) -> String {
        namesAddresses ? ClientAddress.normalised(host) ?? host : host
    }
}

extension String {
    /// The text in the one form that its characters have (NFC).
    ///
    /// Swift takes `K` and the Kelvin sign for equal, bytes do not: what is compared both ways has to be in one form.
    var inOneForm: String { utf8.allSatisfy { $0 < 0x80 } ? self : precomposedStringWithCanonicalMapping }

    /// Whether there is no other way to write the same.
    var isInOneForm: Bool { utf8.elementsEqual(inOneForm.utf8) }
}

extension KafkaACL {
    /// Whether a rule is about somebody at an address.
    fileprivate func concerns(_ principal: String, _ host: String) -> Bool {
        (self.principal == principal || self.principal == "User:*") && (self.host == host || self.host == Self.anyHost)
    }

    /// Whether a rule that allows covers an operation: who may change something may see it.
    fileprivate func allows(_ wanted: Operation) -> Bool {
        switch (operation, wanted) {
        case (.all, _): true
        case (.read, .describe), (.write, .describe), (.delete, .describe), (.alter, .describe): true
        case (.alterConfigs, .describeConfigs): true
        default: operation == wanted
        }
    }

    /// Stands for every address.
    static let anyHost = "*"

    /// The address in the one way it is compared; what is no address stays as it is, and is that of nobody.
    package var normalisedHost: String { ClientAddress.normalised(host) ?? host }

    /// The rule as it is stored: with its address in the one way it is compared.
    ///
    /// - Throws: `ServiceError.invalid` for one that could never hold.
    package func checked() throws(ServiceError) -> KafkaACL {
        try check()
        var acl = self
        acl.host = normalisedHost
        return acl
    }

    private func check() throws(ServiceError) {
        let isName = (1...1024).contains(resourceName.utf8.count)
        guard isName, resourceName.unicodeScalars.allSatisfy({ $0.properties.generalCategory != .control }) else {
            throw .invalid(field: "resource_name", "must have 1 to 1024 bytes without control characters")
        }
        if resourceType == .cluster {
            guard pattern == .literal, resourceName == Self.clusterName || resourceName == "*" else {
                throw .invalid(
                    field: "resource_name",
                    "'\(resourceName.prefix(100))' is no cluster",
                    fix: "use \(Self.clusterName) with the pattern literal"
                )
            }
        }
        guard principal.hasPrefix("User:"), (6...1029).contains(principal.utf8.count),
            principal.unicodeScalars.allSatisfy({ $0.properties.generalCategory != .control })
        else {
            throw .invalid(
                field: "principal",
                "'\(principal.prefix(100))' is nobody",
                fix: "write User:NAME, or User:* for everybody"
            )
        }
        guard host == Self.anyHost || ClientAddress.normalised(host) != nil else {
            throw .invalid(
                field: "host",
                "'\(host.prefix(100))' is no address",
                fix:
                    "write an IP address such as 10.0.0.1 or 2001:db8::1, or * for any; names, networks and zones are none"
            )
        }
        guard Self.operations(on: resourceType).contains(operation) else {
            throw .invalid(
                field: "operation",
                "\(operation.rawValue) is nothing one can do with a \(resourceType.rawValue)",
                fix: "use \(Self.operations(on: resourceType).map(\.rawValue).joined(separator: ", "))"
            )
        }
    }

    /// What can be done with a kind of resource.
    package static func operations(on type: ResourceType) -> [Operation] {
        switch type {
        case .topic: [.all, .read, .write, .create, .delete, .alter, .describe, .describeConfigs, .alterConfigs]
        case .group: [.all, .read, .describe, .delete, .describeConfigs, .alterConfigs]
        case .cluster:
            [.all, .create, .clusterAction, .describeConfigs, .alterConfigs, .idempotentWrite, .alter, .describe]
        case .transactionalID: [.all, .describe, .write]
        }
    }
}
