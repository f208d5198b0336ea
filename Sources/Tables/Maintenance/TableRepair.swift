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

    /// One finding and what is to be done about it.
    private struct Step: Sendable {
        enum Work: Sendable {
            /// Off the list of files, because it is gone.
            case forget(AppendTableFile)
            /// Off the list, and out of the way.
            case setAside(AppendTableFile)
            case restore(AppendTableFile)
            case link(AppendTableFile)
            case delete
            /// Nothing now.
            case wait
        }

        var finding: TableFinding
        var work: Work

        /// The file that leaves the list.
        var lost: AppendTableFile? {
            switch work {
            case .forget(let file), .setAside(let file): file
            case .restore, .link, .delete, .wait: nil
            }
        }
    }

    private var folder: TableFolder { table.layout.folder }

    /// Finds what differs and, but for a dry run, puts it right: lost and damaged files leave the list in one commit (damaged ones
    /// are kept aside), files nobody lists are deleted.
    ///
    /// What cannot be put right says why in its finding; the others are done all the same.
    func run(dryRun: Bool, depth: FileInspector.Depth) async throws -> [TableFinding] {
        try await table.maintenance.pass {
            let listed = table.read { $0.files.values.sorted { $0.id < $1.id } }
            let known = try await services.catalog.appendTables.paths(table.guid)
            let database = try await services.space.database()
            defer { table.note(check: nil) }
            var steps = try await services.space.maintenance.run {
                try inspect(listed, known, depth, database.connect())
            }
            note(steps, depth)
            let offsets = offsets()
            guard !dryRun else { return steps.map(\.finding) + offsets }
            let lost = steps.compactMap(\.lost)
            if !lost.isEmpty {
                _ = try await TableMaintenance(table: table, services: services).store(
                    AppendTableChange(
                        kind: .repair,
                        filesRemoved: lost.map(\.id),
                        rowsRemoved: lost.reduce(0) { $0 + ($1.part == .rows ? $1.rows : 0) }
                    )
                )
            }
            for index in steps.indices { perform(&steps[index]) }
            note(steps.filter { !$0.finding.isDone }, depth)
            return steps.map(\.finding) + offsets
        }
    }

    /// Remembers for the table's state which files are damaged.
    private func note(_ steps: [Step], _ depth: FileInspector.Depth) {
        var damage: [String: String] = [:]
        for step in steps {
            switch step.work {
            case .forget(let file), .setAside(let file), .restore(let file): damage[file.path] = step.finding.problem
            case .link, .delete, .wait: break
            }
        }
        // Sizes alone do not say that what was known before is mended.
        if depth == .full { table.setDamage(table.read { $0.damage }.filter { damage[$0.key] != nil }) }
        services.note(damage: damage, of: table)
    }

    // MARK: Doing

    private func perform(_ step: inout Step) {
        do {
            switch step.work {
            case .forget: break  // The commit has done it.
            case .setAside(let file): try folder.setAside(file.path)
            case .restore(let file):
                try folder.restore(file.path)
                table.mended(file.path)
            case .link(let file): try folder.link(file.path)
            case .delete: try folder.delete(step.finding.path)
            case .wait: return
            }
            step.finding.isDone = true
        } catch {
            step.finding.failure = (error as? ServiceError)?.message ?? "\(error)"
        }
    }

    // MARK: Finding

    private func inspect(
        _ listed: [AppendTableFile],
        _ known: Set<String>,
        _ depth: FileInspector.Depth,
        _ connection: Connection
    ) throws -> [Step] {
        let inspector = FileInspector(folder: folder)
        var steps: [Step] = []
        for (index, file) in listed.enumerated() {
            table.note(check: (index, listed.count))
            guard let problem = inspector.problem(file, depth, connection) else {
                if !folder.isPublished(file.path) { steps.append(unpublished(file)) }
                continue
            }
            let link = folder.publishedPath(file.path)
            let isGone = !FileManager.default.fileExists(atPath: folder.absolute(file.path))
            if isGone, inspector.problem(file, at: link, depth, connection) == nil {
                steps.append(restorable(file))
            } else {
                steps.append(isGone ? gone(file) : damaged(file, problem))
            }
        }
        return steps + strangers(known)
    }

    /// Files that no commit has.
    private func strangers(_ known: Set<String>) -> [Step] {
        let present = folder.files()
        // A commit since `known` gives the table its files before it makes their links.
        let current = table.read { $0.files.values.map(\.path) }
        let expected = known.union(current).union(current.map(folder.publishedPath))
        return present.sorted { $0.key < $1.key }.compactMap { path, size in
            guard !path.hasPrefix("damaged/"), !expected.contains(path) else { return nil }
            var finding = TableFinding(
                kind: .orphanFile,
                path: path,
                problem: "\(size) bytes that no commit lists",
                action: "delete it"
            )
            // Nobody but a commit writes to files/, and only there does what is written come before it is listed.
            guard path.hasPrefix("files/"), let modified = modified(folder.absolute(path)) else {
                return Step(finding: finding, work: .delete)
            }
            let age = -modified.timeIntervalSinceNow
            guard age < Self.orphanSeconds else { return Step(finding: finding, work: .delete) }
            let due = Timestamp.format(modified.addingTimeInterval(Self.orphanSeconds))
            finding.action =
                "nothing yet: it is \(max(0, Int(age))) s old, and a commit that is under way may be writing it; a repair after "
                + "\(due) deletes it, and so does the next start"
            return Step(finding: finding, work: .wait)
        }
    }

    private func unpublished(_ file: AppendTableFile) -> Step {
        let link = folder.publishedPath(file.path)
        let isThere = FileManager.default.fileExists(atPath: folder.absolute(link))
        let finding = TableFinding(
            kind: .missingFile,
            path: link,
            problem: isThere
                ? "programs outside see another file in place of the \(file.rows) rows of \(file.path)"
                : "programs outside do not see the \(file.rows) rows of \(file.path)",
            action: "link it again"
        )
        return Step(finding: finding, work: .link(file))
    }

    private func restorable(_ file: AppendTableFile) -> Step {
        let finding = TableFinding(
            kind: .missingFile,
            path: file.path,
            problem: "the catalog lists it with \(file.rows) rows, and only its other name is there",
            action: "bring it back from \(folder.publishedPath(file.path))"
        )
        return Step(finding: finding, work: .restore(file))
    }

    private func gone(_ file: AppendTableFile) -> Step {
        let problem = "the catalog lists it with \(file.rows) rows, and it is not there"
        return lost(file, .missingFile, problem, action: "take it off the list", .forget(file))
    }

    private func damaged(_ file: AppendTableFile, _ problem: String) -> Step {
        lost(file, .damagedFile, problem, action: "take it off the list and move it to damaged/", .setAside(file))
    }

    /// What to do about a file whose rows the table has no more.
    private func lost(
        _ file: AppendTableFile,
        _ kind: TableFinding.Kind,
        _ problem: String,
        action: String,
        _ work: Step.Work
    ) -> Step {
        let finding = TableFinding(kind: kind, path: file.path, problem: problem, action: action, rowsLost: file.rows)
        return Step(finding: finding, work: work)
    }

    /// When a file was last written; nil where it is gone.
    private func modified(_ path: String) -> Date? {
        // Gone meanwhile: nothing to do.
        (try? FileManager.default.attributesOfItem(atPath: path))?[.modificationDate] as? Date
    }

    /// No commit takes that long to write a file.
    private static let orphanSeconds = 3600.0

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
                    : "wait until the topic has it; create the table anew if the topic was"
            )
        }
    }
}
