// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore

/// A file of a view as the watcher last saw it.
package struct InventoryElement: Sendable, Equatable {
    /// Path below the view, with `/`.
    package var key: String
    /// Inode number.
    package var inode: UInt64
    /// Size in bytes.
    package var sizeBytes: Int64
    /// Modification time, nanoseconds since 1970.
    package var modifiedNanos: Int64
    /// Change time, nanoseconds since 1970.
    package var changedNanos: Int64
    /// `user.` extended attributes without the prefix.
    package var tags: [String: String]
    /// Counts what was seen of this key.
    package var version: Int64

    /// Makes an element.
    package init(
        key: String,
        inode: UInt64,
        sizeBytes: Int64,
        modifiedNanos: Int64,
        changedNanos: Int64,
        tags: [String: String] = [:],
        version: Int64
    ) {
        self.key = key
        self.inode = inode
        self.sizeBytes = sizeBytes
        self.modifiedNanos = modifiedNanos
        self.changedNanos = changedNanos
        self.tags = tags
        self.version = version
    }

    var tagsText: String {
        guard !tags.isEmpty else { return "{}" }
        let members = tags.sorted { $0.key < $1.key }.map { JSONObject.Member(key: $0.key, value: .string($0.value)) }
        return JSONValue.object(JSONObject(members: members)).text
    }

    static func tags(_ text: String) throws -> [String: String] {
        guard text != "{}" else { return [:] }
        guard case .object(let object) = try JSONValue(parsing: text) else { return [:] }
        return Dictionary(object.members.map { ($0.key, $0.value.stringValue ?? "") }) { $1 }
    }
}

/// How far the events of a trigger are known to be in a partition of its topic.
package struct InventoryCheckpoint: Sendable, Hashable {
    /// GUID of the trigger.
    package var triggerGuid: String
    /// Name of the topic.
    package var topic: String
    /// Partition of the topic.
    package var partition: Int32
    /// Offset of the next record.
    package var offset: Int64

    /// Makes a checkpoint.
    package init(triggerGuid: String, topic: String, partition: Int32, offset: Int64) {
        self.triggerGuid = triggerGuid
        self.topic = topic
        self.partition = partition
        self.offset = offset
    }
}
