// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Foundation
import MartletCore
import Topics

/// Finds out at the start that parts of the data directory are missing, which would otherwise come up empty.
enum LostData {
    /// A file that an operator makes to start with an empty log all the same; it is removed.
    private static let consent = "start-empty"

    /// Refuses a data directory whose catalog is gone while what belongs to it is there.
    static func refuseMissingCatalog(_ layout: DataLayout) throws {
        let files = FileManager.default
        guard !files.fileExists(atPath: layout.catalog), !files.fileExists(atPath: layout.catalog + "-mark") else {
            return
        }
        var found: [String] = []
        if files.fileExists(atPath: layout.secretKey) { found.append(layout.secretKey) }
        let topics = layout.log + "/topics"
        // A directory that is not there has no topics.
        if let names = try? files.contentsOfDirectory(atPath: topics), !names.isEmpty { found.append(topics) }
        guard !found.isEmpty else { return }
        throw ServiceError(
            .failedPrecondition,
            "\(layout.catalog): the file is missing, but \(found.joined(separator: " and ")) belong to one: users, rules that deny access, "
                + "secrets and all resources would be gone",
            fix:
                "restore catalog.sqlite with its -wal and -mark files from a backup, or mount the disk it is on; to begin anew, start "
                + "in another data directory"
        )
    }

    /// Reports topics whose files are gone, and refuses to start where all of them are.
    static func report(_ parts: EngineParts) async throws {
        let (lost, known) = try await parts.topics.lost()
        if lost.isEmpty { return }
        let folder = parts.layout.log
        if lost.count == known {
            let sign = "\(folder)/\(consent)"
            guard unlink(sign) == 0 else {
                throw ServiceError(
                    .failedPrecondition,
                    "\(folder)/topics: the files of all \(known) topics are missing (\(lost.prefix(5).joined(separator: ", "))"
                        + "\(known > 5 ? ", …" : ""))",
                    fix:
                        "mount the disk that \(folder) is on, or restore it from a backup; to start with empty topics all the same, make the "
                        + "file \(sign)"
                )
            }
        }
        // The log misses those that its checkpoint has told of by itself.
        let reported = Set(parts.stores.log.damage().filter { $0.partition == -1 }.map(\.topic))
        for name in lost where !reported.contains(name) {
            parts.stores.log.report(
                DamageReport(
                    topic: name,
                    partition: -1,
                    offsets: 0..<0,
                    file: "\(folder)/topics/\(name)",
                    bytes: 0..<0,
                    reason:
                        "all its files are missing; the topic was made anew, without records. Restore them from a backup"
                )
            )
        }
    }
}
