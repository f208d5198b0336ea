// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import DuckDB
import EventLog
import Foundation
import MartletCore

/// Compares what the catalog says of an append table with its files and its topic.
struct TableRepair: Sendable {
    let table: AppendTable
    let services: SinkServices

    /// Finds what differs and, but for a dry run, puts it right: lost and damaged files leave the list in one commit (damaged ones
    /// are kept aside), files nobody lists are deleted.
    func run(dryRun: Bool) async throws -> [TableFinding] {
        try await table.maintenance.pass {
            let listed = table.read { $0.files.values.sorted { $0.id < $1.id } }
            let known = try await services.catalog.appendTables.paths(table.guid)
            let database = try await services.space.database()
            let found = try await services.space.maintenance.run { [table] in
                try Self.inspect(listed, known, table.layout.folder, database.connect())
            }
            var findings = found.findings + offsets()
            guard !dryRun else { return findings }
            if !found.lost.isEmpty {
                _ = try await TableMaintenance(table: table, services: services).store(
                    AppendTableChange(
                        kind: .repair,
                        filesRemoved: found.lost.map(\.id),
                        rowsRemoved: found.lost.reduce(0) { $0 + ($1.part == .rows ? $1.rows : 0) }
                    )
                )
            }
            try table.layout.folder.restore(found.restorable)
            for finding in findings where finding.kind == .damagedFile { try setAside(finding.path) }
            table.layout.folder.remove(findings.filter { $0.kind == .orphanFile }.map(\.path))
            table.layout.folder.publish(added: found.unpublished, removed: [])
            for index in findings.indices where findings[index].kind != .offset { findings[index].isDone = true }
            return findings
        }
    }

    private struct Found: Sendable {
        var findings: [TableFinding] = []
        var lost: [AppendTableFile] = []
        /// Files that programs outside do not see.
        var unpublished: [String] = []
        /// Files that are gone, and whose other name is still there.
        var restorable: [String] = []
    }

    private static func inspect(
        _ listed: [AppendTableFile],
        _ known: Set<String>,
        _ folder: TableFolder,
        _ connection: Connection
    ) throws -> Found {
        let present = folder.files()
        var found = Found()
        for file in listed {
            let problem: String
            var kind = TableFinding.Kind.damagedFile
            if let size = present[file.path] {
                guard let reason = damage(file, at: file.path, size, folder, connection) else {
                    let link = folder.publishedPath(file.path)
                    guard present[link] == nil else { continue }
                    found.unpublished.append(file.path)
                    found.findings.append(
                        TableFinding(
                            kind: .missingFile,
                            path: link,
                            problem: "programs outside do not see the \(file.rows) rows of \(file.path)",
                            action: "link it again",
                            isDone: false
                        )
                    )
                    continue
                }
                problem = reason
            } else if let size = present[folder.publishedPath(file.path)],
                damage(file, at: folder.publishedPath(file.path), size, folder, connection) == nil
            {
                found.restorable.append(file.path)
                found.findings.append(restorable(file, folder))
                continue
            } else {
                kind = .missingFile
                problem = "the catalog lists it with \(file.rows) rows, and it is not there"
            }
            found.lost.append(file)
            found.findings.append(
                TableFinding(
                    kind: kind,
                    path: file.path,
                    problem: problem,
                    action: kind == .missingFile
                        ? "take it off the list" : "take it off the list and move it to damaged/",
                    rowsLost: file.rows,
                    isDone: false
                )
            )
        }
        let published = Set(listed.map { folder.publishedPath($0.path) })
        for (path, size) in present.sorted(by: { $0.key < $1.key }) {
            let isStrange =
                path.hasPrefix("files/")
                ? !known.contains(path)
                : (path.hasPrefix("rows/") || path.hasPrefix("rejects/")) && !published.contains(path)
            guard isStrange, isOld(folder.absolute(path)) else { continue }
            found.findings.append(
                TableFinding(
                    kind: .orphanFile,
                    path: path,
                    problem: "\(size) bytes that no commit lists",
                    action: "delete it",
                    isDone: false
                )
            )
        }
        return found
    }

    private static func restorable(_ file: AppendTableFile, _ folder: TableFolder) -> TableFinding {
        TableFinding(
            kind: .missingFile,
            path: file.path,
            problem: "the catalog lists it with \(file.rows) rows, and only its other name is there",
            action: "bring it back from \(folder.publishedPath(file.path))",
            isDone: false
        )
    }

    /// Whether a file cannot be one that a commit under way is writing.
    private static func isOld(_ path: String) -> Bool {
        let attributes = try? FileManager.default.attributesOfItem(atPath: path)  // Gone meanwhile: nothing to do.
        guard let modified = attributes?[.modificationDate] as? Date else { return false }
        return modified.timeIntervalSinceNow < -orphanSeconds
    }

    /// No commit takes that long to write a file.
    private static let orphanSeconds = 3600.0

    /// What is wrong with a file that is there; reads all of it, because a flipped bit shows only then.
    private static func damage(
        _ file: AppendTableFile,
        at place: String,
        _ size: Int64,
        _ folder: TableFolder,
        _ connection: Connection
    ) -> String? {
        guard size == file.bytes else { return "it has \(size) bytes and the catalog says \(file.bytes)" }
        let path = SQLText.literal(folder.absolute(place))
        do {
            let counts = try connection.query(
                "SELECT count(*), count(COLUMNS(*)) FROM read_parquet(\(path), hive_partitioning = false)"
            ).rows()
            guard case .int(let count)? = counts.first?.first, count == file.rows else {
                return "it has other rows than the \(file.rows) the catalog says"
            }
            return nil
        } catch {
            return "it cannot be read: \(error.message)"
        }
    }

    private func setAside(_ path: String) throws {
        let folder = table.layout.folder
        let target = folder.absolute("damaged/" + path.split(separator: "/").joined(separator: "."))
        try FileManager.default.createDirectory(atPath: folder.absolute("damaged"), withIntermediateDirectories: true)
        try FileManager.default.moveItem(atPath: folder.absolute(path), toPath: target)
    }

    /// Where the topic cannot give what the table would take next.
    private func offsets() -> [TableFinding] {
        let topic = table.spec.topic
        return table.read { $0.offsets }.sorted { $0.key < $1.key }.compactMap { partition, next in
            let id = TopicPartition(topic: topic, partition: partition)
            guard let bounds = try? services.log.bounds(id) else { return nil }
            guard next < bounds.start || next > bounds.end else { return nil }
            return TableFinding(
                kind: .offset,
                path: "\(topic)/\(partition)",
                problem: next < bounds.start
                    ? "the next record to take is \(next), and the topic begins at \(bounds.start)"
                    : "the next record to take is \(next), and the topic ends at \(bounds.end)",
                action: next < bounds.start
                    ? "go on at \(bounds.start); \(bounds.start - next) records are in neither"
                    : "wait until the topic has it; create the table anew if the topic was",
                isDone: false
            )
        }
    }
}
