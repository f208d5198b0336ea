// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import FoundationEssentials

/// What is known of a topic.
package struct TopicDescription: Hashable, Sendable {
    /// The topic's name.
    package let name: String
    /// The identity of this topic; another one created later under the same name has another id.
    package let id: UUID
    /// The number of partitions.
    package let partitions: Int32
    /// How the topic keeps its records.
    package let settings: TopicSettings
    /// Whether the engine made the topic for itself: its name begins with two underscores.
    package var isInternal: Bool { EngineTopic.isOne(name) }

    /// Describes a topic.
    package init(name: String, id: UUID, partitions: Int32, settings: TopicSettings) {
        self.name = name
        self.id = id
        self.partitions = partitions
        self.settings = settings
    }
}

/// Kafka's rule for topic names.
package enum TopicName {
    /// Refuses names outside `[a-zA-Z0-9._-]{1,249}`, and `.` and `..`.
    ///
    /// - Throws: `.invalidTopicName`.
    package static func validate(_ name: String) throws(EventLogError) {
        let isLegal = name.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
                true
            default: false
            }
        }
        guard isLegal, (1...249).contains(name.utf8.count), name != ".", name != ".." else {
            throw EventLogError(
                .invalidTopicName,
                "topic name \(String(name.prefix(260)).debugDescription) must have 1 to 249 of a-z A-Z 0-9 . _ - "
                    + "and be neither . nor .."
            )
        }
    }
}
