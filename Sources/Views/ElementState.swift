// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// What a view knows of one file.
package struct ElementState: Sendable, Equatable {
    /// Inode number.
    package var inode: UInt64
    /// Size in bytes.
    package var sizeBytes: Int64
    /// Modification time, nanoseconds since 1970.
    package var modifiedNanos: Int64
    /// Change time, nanoseconds since 1970, when the content was last reported.
    package var changedNanos: Int64
    /// `user.` extended attributes without the prefix.
    package var tags: [String: String]

    /// Makes a state.
    package init(
        inode: UInt64,
        sizeBytes: Int64,
        modifiedNanos: Int64,
        changedNanos: Int64,
        tags: [String: String] = [:]
    ) {
        self.inode = inode
        self.sizeBytes = sizeBytes
        self.modifiedNanos = modifiedNanos
        self.changedNanos = changedNanos
        self.tags = tags
    }

    /// Whether both are the same content of the same file, as far as metadata can tell.
    package func hasSameContent(as other: ElementState) -> Bool {
        inode == other.inode && sizeBytes == other.sizeBytes && modifiedNanos == other.modifiedNanos
    }
}
