// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Identity
import KafkaCodec
import MartletCore

// Whether the client of a request may do something.
extension KafkaDoor {
    func may(_ session: KafkaSession, _ operation: KafkaACL.Operation, topic: String) -> Bool {
        may(session, operation, .topic, topic)
    }

    func may(_ session: KafkaSession, _ operation: KafkaACL.Operation, group: String) -> Bool {
        may(session, operation, .group, group)
    }

    func may(_ session: KafkaSession, _ operation: KafkaACL.Operation, transactionalID: String) -> Bool {
        may(session, operation, .transactionalID, transactionalID)
    }

    func mayOnCluster(_ session: KafkaSession, _ operation: KafkaACL.Operation) -> Bool {
        may(session, operation, .cluster, KafkaACL.clusterName)
    }

    /// Whether something may be shown, or done in one of several ways; not counted as a refusal.
    func sees(
        _ session: KafkaSession,
        _ type: KafkaACL.ResourceType,
        _ name: String,
        _ operation: KafkaACL.Operation = .describe
    ) -> Bool {
        guard let principal = session.login.principal else { return false }
        return security.access.allow(principal, host: session.peer, operation, on: type, name)
    }

    private func may(
        _ session: KafkaSession,
        _ operation: KafkaACL.Operation,
        _ type: KafkaACL.ResourceType,
        _ name: String
    ) -> Bool {
        // A login that has ended while its request was at work may do nothing more.
        let isAllowed =
            session.login.principal.map {
                security.access.allow($0, host: session.peer, operation, on: type, name)
            } ?? false
        if !isAllowed { security.access.denied(operation, on: type) }
        return isAllowed
    }

    /// Whether a producer that has no transactional id may have a producer id.
    func mayNumberRecords(_ session: KafkaSession) -> Bool {
        guard let principal = session.login.principal else { return false }
        let access = security.access
        return access.allowAny(principal, host: session.peer, .write, on: .topic)
            || access.allow(principal, host: session.peer, .idempotentWrite, on: .cluster, KafkaACL.clusterName)
    }

    /// Whether users and rules may be changed: with rules, who may alter the cluster; without, super users, or everybody
    /// where nobody has to log in.
    func mayManageAccess(_ session: KafkaSession, _ operation: KafkaACL.Operation) -> Bool {
        guard let principal = session.login.principal else { return false }
        let access = security.access
        let knowsClients = session.login.authenticator != nil || security.tls?.requiresClientCertificate == true
        if !access.isEnabled, knowsClients { return access.isSuper(principal) }
        return mayOnCluster(session, operation)
    }

    /// What a client may do with a resource, as the bits of Kafka's numbers.
    func operations(_ session: KafkaSession, _ type: KafkaACL.ResourceType, _ name: String) -> Int32 {
        guard let principal = session.login.principal else { return 0 }
        var bits: Int32 = 0
        for operation in KafkaACL.operations(on: type) where operation != .all {
            if security.access.allow(principal, host: session.peer, operation, on: type, name) {
                bits |= 1 << Int32(operation.number)
            }
        }
        return bits
    }
}

extension KafkaACL.Operation: ProtocolNumbered {
    /// The protocol's number.
    var number: Int8 {
        switch self {
        case .all: 2
        case .read: 3
        case .write: 4
        case .create: 5
        case .delete: 6
        case .alter: 7
        case .describe: 8
        case .clusterAction: 9
        case .describeConfigs: 10
        case .alterConfigs: 11
        case .idempotentWrite: 12
        }
    }
}
