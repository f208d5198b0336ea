// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Turns something that happened, in a view or on the clock, into events on a topic.
package struct TriggerSpec: ResourceSpec, Equatable {
    package static let kind = ResourceKind.triggers

    /// What a trigger listens to.
    package enum Source: String, Codable, Sendable {
        case element = "Element"
        case schedule = "Schedule"
    }

    /// Prefixes and suffixes of which one each must match; an empty list matches all.
    package struct Filters: Codable, Sendable, Equatable {
        package var prefixes: [String]
        package var suffixes: [String]

        package init(prefixes: [String] = [], suffixes: [String] = []) {
            self.prefixes = prefixes
            self.suffixes = suffixes
        }
    }

    /// Settings that depend on the source.
    package struct Config: Codable, Sendable, Equatable {
        package var nameFilters: Filters
        package var tagFilters: Filters
        /// Seven-field Quartz form, normalised from what the user wrote.
        package var cronSchedule: String?
        /// The expression as the user wrote it.
        package var cronExpression: String?
        /// IANA name; UTC unless given.
        package var timeZone: String?
        /// What happens to fires missed while the engine was down: `skip`, `once` (default) or `all`.
        package var missedFires: String?

        package init(
            nameFilters: Filters = Filters(),
            tagFilters: Filters = Filters(),
            cronSchedule: String? = nil,
            cronExpression: String? = nil,
            timeZone: String? = nil,
            missedFires: String? = nil
        ) {
            self.nameFilters = nameFilters
            self.tagFilters = tagFilters
            self.cronSchedule = cronSchedule
            self.cronExpression = cronExpression
            self.timeZone = timeZone
            self.missedFires = missedFires
        }
    }

    package var type: Source
    /// Name of the view, for element triggers.
    package var sourceBucketName: String?
    /// Of `ObjectCreated:*`, `ObjectRemoved:*`, `ObjectTagging:Put`, `ObjectTagging:Delete`.
    package var events: [String]
    package var config: Config
    /// Topic the events go to.
    package var topicName: String
    /// Copied onto every event as CloudEvents extensions; keys `[a-z][a-z0-9]{0,19}`.
    package var customExtensions: [String: String]
    /// `Ready` or `Failed`.
    package var status: String
    package var reason: String?

    package init(
        type: Source,
        sourceBucketName: String? = nil,
        events: [String] = [],
        config: Config = Config(),
        topicName: String,
        customExtensions: [String: String] = [:],
        status: String = "Ready",
        reason: String? = nil
    ) {
        self.type = type
        self.sourceBucketName = sourceBucketName
        self.events = events
        self.config = config
        self.topicName = topicName
        self.customExtensions = customExtensions
        self.status = status
        self.reason = reason
    }

    package var references: [ResourceReference] {
        var all = [ResourceReference(kind: .topics, name: topicName)]
        if let sourceBucketName { all.append(ResourceReference(kind: .views, name: sourceBucketName)) }
        return all
    }
}
