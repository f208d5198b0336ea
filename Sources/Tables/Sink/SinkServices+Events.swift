// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Logging
import MartletCore

extension SinkServices {
    /// Remembers damaged files of a table, and tells of those that were not known.
    func note(damage: [String: String], of table: AppendTable) {
        guard table.note(damage: damage), let first = damage.sorted(by: { $0.key < $1.key }).first else { return }
        let message = "table '\(table.name)': \(first.key) is damaged: \(first.value)"
        let fix = "martlet tables repair \(table.name) --dry-run"
        logger.error(
            "a file of a table is damaged",
            metadata: ["table": "\(table.name)", "file": "\(first.key)", "problem": "\(first.value)", "fix": "\(fix)"]
        )
        telemetry.record(events: [
            EngineEvent(
                "Table",
                "Damaged",
                table.name,
                severity: .error,
                message,
                details: ["files": "\(damage.count)", "fix": fix],
                time: .now
            )
        ])
    }

    /// Tells of a commit as an event of the engine; tables of the engine's own topics would tell of themselves for ever, so only of
    /// their repair.
    func tell(_ commit: TableCommit, of table: AppendTable) {
        let spec = table.spec
        guard !spec.topic.hasPrefix("__") || commit.kind == .repair else { return }
        let action: String
        var severity = Severity.info
        switch commit.kind {
        case .append: (action, severity) = ("Committed", .debug)
        case .compaction: (action, severity) = ("Compacted", .debug)
        case .retention: action = "Expired"
        case .replay: action = "Replayed"
        case .repair: (action, severity) = ("Repaired", .warn)
        case .schema: action = "ColumnsChanged"
        }
        telemetry.record(events: [
            EngineEvent(
                "Table",
                action,
                table.name,
                severity: severity,
                "table '\(table.name)': commit \(commit.number) (\(commit.kind.rawValue)) added \(commit.rowsAdded) rows and removed "
                    + "\(commit.rowsRemoved)",
                details: [
                    "commit": "\(commit.number)", "topic": spec.topic, "rows_added": "\(commit.rowsAdded)",
                    "rows_removed": "\(commit.rowsRemoved)", "rows_rejected": "\(commit.rowsRejected)",
                    "files_added": "\(commit.filesAdded)", "files_removed": "\(commit.filesRemoved)",
                ],
                time: commit.time
            )
        ])
    }
}
