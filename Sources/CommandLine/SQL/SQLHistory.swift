// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore

/// What was entered before, in a file that only its owner can read; one JSON string a line, the oldest first.
struct SQLHistory {
    private static let entriesMax = 2000
    private let path: String?
    private(set) var entries: [String] = []

    /// Reads the file below `XDG_STATE_HOME`; one that cannot be read is an empty history.
    init(environment: [String: String]) {
        let home = environment["HOME"].nonEmpty
        let base = environment["XDG_STATE_HOME"].nonEmpty ?? home.map { $0 + "/.local/state" }
        path = base.map { $0 + "/martlet/sql_history" }
        guard let path, let data = FileManager.default.contents(atPath: path) else { return }
        entries = data.split(separator: 0x0A).compactMap { line in
            (try? JSONValue(parsing: Array(line)))?.stringValue  // A torn line is not worth a word.
        }
        guard entries.count > 2 * Self.entriesMax else { return }
        entries = Array(entries.suffix(Self.entriesMax))
        rewrite(path)
    }

    /// Adds an entry; nothing is kept of what is empty, begins with a space or repeats the one before.
    ///
    /// - Throws: `CommandFailure` when the file cannot be written.
    mutating func add(_ text: String) throws {
        let entry = String(
            text.trimmingPrefix(while: \.isNewline).reversed().trimmingPrefix(while: \.isWhitespace).reversed()
        )
        guard let first = entry.first, first != " ", entry != entries.last else { return }
        entries.append(entry)
        guard let path else { return }
        let folder = (path as NSString).deletingLastPathComponent
        // The file is opened below, which says why when the folder is not there.
        try? FileManager.default.createDirectory(
            atPath: folder,
            withIntermediateDirectories: true,
            attributes: [.posixPermissions: 0o700]
        )
        let file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        guard file >= 0 else {
            throw CommandFailure(.failure, "the history \(path) cannot be written: \(String(cString: strerror(errno)))")
        }
        defer { close(file) }
        try Output(descriptor: file, isTerminal: false).write(JSONValue.string(entry).bytes + [0x0A])
    }

    private func rewrite(_ path: String) {
        let part = path + ".new"
        let file = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0 else { return }
        defer { close(file) }
        do {
            for entry in entries {
                try Output(descriptor: file, isTerminal: false).write(JSONValue.string(entry).bytes + [0x0A])
            }
            rename(part, path)
        } catch {
            unlink(part)  // The long history stays, which harms nobody.
        }
    }
}
