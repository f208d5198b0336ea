// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
package import EventLog
package import MartletCore

/// A table of the engine itself with the topic it follows, made when the engine starts without them.
package struct InternalTable: Sendable {
    /// Its name, `system.` and a word.
    package var name: String
    package var description: String
    package var spec: TableSpec
    /// Settings of the topic's log.
    package var topic: TopicSettings

    package init(name: String, description: String, spec: TableSpec, topic: TopicSettings) {
        self.name = name
        self.description = description
        self.spec = spec
        self.topic = topic
    }
}

extension TableRuntime {
    /// Makes topics and tables that are not there, and adds columns that a newer version brings; settings that were changed stay.
    package func prepare(internal tables: [InternalTable]) async throws {
        for table in tables {
            if try await services.log.topic(table.spec.topic) == nil {
                try await services.log.createTopic(table.spec.topic, partitions: 1, settings: table.topic)
            }
            try await services.catalog.transaction { transaction in
                let owner = ResourceMetadata.Owner(name: "martlet")
                if try transaction.find(TopicSpec.self, table.spec.topic) == nil {
                    _ = try transaction.create(
                        name: table.spec.topic,
                        description: table.description,
                        owner: owner,
                        spec: TopicSpec(
                            partitions: 1,
                            retentionMilliseconds: table.topic.retentionMilliseconds,
                            retentionBytes: table.topic.retentionBytes,
                            isInternal: true
                        )
                    )
                }
                guard let found = try transaction.find(TableSpec.self, table.name) else {
                    _ = try transaction.create(
                        name: table.name,
                        description: table.description,
                        owner: owner,
                        spec: table.spec
                    )
                    return
                }
                guard found.spec.columns != table.spec.columns else { return }
                try transaction.update(TableSpec.self, found.guid) { $0.spec.columns = table.spec.columns }
            }
        }
    }

    /// Waits until a table shows every record its topic has now, for at most some time; whether it does.
    package func isCaughtUp(_ name: String, within limit: Duration) async throws -> Bool {
        let table = try find(name)
        let topic = table.spec.topic
        guard let description = try await services.log.topic(topic) else { return true }
        var ends: [Int32: Int64] = [:]
        for number in 0..<description.partitions {
            ends[number] = try services.log.bounds(TopicPartition(topic: topic, partition: number)).stable
        }
        let deadline = ContinuousClock.now + limit
        while true {
            let taken = sink(of: table)?.taken ?? [:]
            if ends.allSatisfy({ $0.value == 0 || taken[$0.key] ?? 0 >= $0.value }) { return true }
            guard ContinuousClock.now < deadline else { return false }
            try await Task.sleep(for: .milliseconds(3))
        }
    }
}
