// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Foundation

/// One change of an append table, all of it or nothing.
package struct TableCommit: Codable, Sendable, Equatable {
    /// Why it was made.
    package enum Kind: String, Codable, Sendable, CaseIterable {
        /// Records of the topic became rows or rejects.
        case append
        /// Small files became larger ones; the rows are the same.
        case compaction
        /// Old files were removed.
        case retention
        /// Rejects became rows.
        case replay
        /// Files that are gone or damaged were taken off the list.
        case repair
        /// The columns were changed by hand.
        case schema
    }

    /// Records of one partition of the topic.
    package struct OffsetRange: Codable, Sendable, Equatable {
        package var partition: Int32
        package var from: Int64
        /// The offset after the last.
        package var to: Int64

        package init(partition: Int32, from: Int64, to: Int64) {
            self.partition = partition
            self.from = from
            self.to = to
        }
    }

    /// Counts from 1 in each table; what AS OF names.
    package var number: Int64
    package var kind: Kind
    package var time: Date
    package var schemaVersion: Int
    package var rowsAdded: Int64
    package var rowsRemoved: Int64
    /// Records that went to the rejects.
    package var rowsRejected: Int64
    package var filesAdded: Int
    package var filesRemoved: Int
    package var bytesAdded: Int64
    /// What was taken from the topic; empty for commits that take nothing.
    package var ranges: [OffsetRange]

    package init(
        number: Int64,
        kind: Kind,
        time: Date,
        schemaVersion: Int,
        rowsAdded: Int64,
        rowsRemoved: Int64,
        rowsRejected: Int64,
        filesAdded: Int,
        filesRemoved: Int,
        bytesAdded: Int64,
        ranges: [OffsetRange]
    ) {
        self.number = number
        self.kind = kind
        self.time = time
        self.schemaVersion = schemaVersion
        self.rowsAdded = rowsAdded
        self.rowsRemoved = rowsRemoved
        self.rowsRejected = rowsRejected
        self.filesAdded = filesAdded
        self.filesRemoved = filesRemoved
        self.bytesAdded = bytesAdded
        self.ranges = ranges
    }
}
