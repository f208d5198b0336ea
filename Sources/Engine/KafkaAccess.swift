// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import Identity
import MartletCore

/// Users and access rules of the Kafka door, over the catalog.
struct KafkaAccess: Sendable {
    let users: KafkaUsers
    let rules: AccessControl
    let service: KafkaAccessService

    init(
        _ catalog: Catalog,
        _ secrets: SecretStore,
        _ metrics: MetricRegistry,
        _ configuration: EngineConfiguration
    ) async throws {
        let store = KafkaAccessStore(catalog: catalog, secrets: secrets)
        users = KafkaUsers(store: store)
        rules = try await AccessControl(
            store: store,
            isEnabled: configuration.kafkaSecurity.usesACLs,
            superUsers: configuration.kafkaSecurity.superUsers,
            metrics: metrics
        )
        service = KafkaAccessService(users: users, access: rules)
    }
}
