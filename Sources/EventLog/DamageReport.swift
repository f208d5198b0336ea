// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Stored bytes that cannot be used, which are left where they are, or a file to which nothing more can be written.
package struct DamageReport: Hashable, Sendable, CustomStringConvertible {
    /// The topic, or the empty string for damage outside topics (consumer group offsets).
    package let topic: String
    /// The partition, or -1 for damage that concerns a whole topic or none.
    package let partition: Int32
    /// The offsets that cannot be read; empty when no offsets are lost.
    package let offsets: Range<Int64>
    /// The file.
    package let file: String
    /// The bytes of the file.
    package let bytes: Range<Int64>
    /// What is wrong with them.
    package let reason: String
    /// What is concerned, in words, where it is neither a topic nor what groups and producers have stored.
    package let subject: String?

    /// Describes damage.
    package init(
        topic: String,
        partition: Int32,
        offsets: Range<Int64>,
        file: String,
        bytes: Range<Int64>,
        reason: String,
        subject: String? = nil
    ) {
        self.topic = topic
        self.partition = partition
        self.offsets = offsets
        self.file = file
        self.bytes = bytes
        self.reason = reason
        self.subject = subject
    }

    /// What is concerned, in words: topic, partition and the offsets that cannot be read.
    package var place: String {
        if let subject { return subject }
        guard !topic.isEmpty else { return "consumer groups and producers" }
        let owner = partition < 0 ? "topic \(topic)" : "topic \(topic), partition \(partition)"
        return offsets.isEmpty ? owner : "\(owner), offsets \(offsets.lowerBound) to \(offsets.upperBound - 1)"
    }

    package var description: String {
        let range = bytes.isEmpty ? "" : " bytes \(bytes.lowerBound)..<\(bytes.upperBound)"
        return "\(place): \(file)\(range): \(reason)"
    }
}
