// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import GRDB
import Synchronization

/// Finds out whether a database is what it was: counts its commits, in it and in a ``CommitMark``, and knows what its main file holds.
///
/// The main file changes only when the write-ahead log is moved into it, which only happens here.
final class CommitGuard: Sendable {
    private struct State {
        var commits: Int64 = 0
        /// What has gone into the write-ahead log since it was last moved: commits, and rows changed.
        var commitsWaiting = 0
        var rowsWaiting = 0
        /// Kept open: closing any descriptor of the file would end SQLite's locks on it.
        var descriptor: Int32 = -1
    }

    private static let counter = "catalog-commits"
    private static let commitsMax = 256
    private static let rowsMax = 2000

    private let path: String
    private let mark: CommitMark
    private let found: CommitMark.Found
    private let troubles: StoreTroubles
    private let state = Mutex(State())

    /// Checks the database as it lies there, without changing anything.
    ///
    /// - Throws: `CatalogError` `.damaged` where it is not what it was, `.newerSchema`.
    init(path: String, migrator: DatabaseMigrator, troubles: StoreTroubles) throws {
        self.path = path
        self.troubles = troubles
        mark = CommitMark(path: path + "-mark")
        found = mark.load()
        if access(path, F_OK) == 0 { try checkContent(migrator) } else { try refuseAbsence() }
    }

    deinit {
        state.withLock { if $0.descriptor >= 0 { Foundation.close($0.descriptor) } }
    }

    private func refuseAbsence() throws {
        var status = stat()
        let hasLog = stat(path + "-wal", &status) == 0 && status.st_size > 0
        guard found != .absent || hasLog else { return }
        throw CatalogError(
            code: .damaged,
            path: path,
            message: "the file is missing, and there was one: \(hasLog ? "\(path)-wal" : mark.path) is still there",
            fix:
                "restore it from a backup together with its -wal and -mark files, or mount the disk it is on; nothing was changed"
        )
    }

    private func checkContent(_ migrator: DatabaseMigrator) throws {
        var configuration = Configuration()
        // Closing a connection that could write would move the write-ahead log, damaged or not, into the file.
        configuration.readonly = true
        configuration.busyMode = .timeout(5)
        let queue = try DatabaseQueue(path: path, configuration: configuration)
        defer { try? queue.close() }
        let commits = try queue.read { db in
            try SQLiteFile.refuseNewerSchema(db, migrator, path: path)
            let findings = try String.fetchAll(db, sql: "PRAGMA quick_check(3)")
            guard findings == ["ok"] else { throw SQLiteFile.damaged(path, findings.joined(separator: "; ")) }
            return try Self.commits(db)
        }
        guard case .content(let content) = found else {
            // An older Martlet wrote no mark, and none of the commits.
            if let commits, commits > 0 || found == .unreadable { noteMissingMark() }
            return
        }
        guard commits ?? 0 >= content.commits else {
            let missing = content.commits - (commits ?? 0)
            throw changed(
                "its last \(missing == 1 ? "commit is" : "\(missing) commits are") missing (it has \(commits ?? 0) of \(content.commits)): "
                    + "it, or \(path)-wal, is damaged, missing or older than the other"
            )
        }
        if let file = content.file { try compare(file) }
    }

    private func compare(_ known: CommitMark.Fingerprint) throws {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw SQLiteFile.damaged(path, String(cString: strerror(errno))) }
        defer { Foundation.close(descriptor) }
        guard let present = CommitMark.fingerprint(descriptor) else {
            throw SQLiteFile.damaged(path, "it cannot be read: \(String(cString: strerror(errno)))")
        }
        guard present != known else { return }
        throw changed(
            present.bytes == known.bytes
                ? "its content is not what was last written to it: bytes were changed on the disk, or by another program"
                : "it has \(present.bytes) bytes where \(known.bytes) were written"
        )
    }

    private func changed(_ reason: String) -> CatalogError {
        CatalogError(
            code: .damaged,
            path: path,
            message: "the file is damaged: \(reason). Topics, users or rules that deny access may be gone from it",
            fix:
                "restore it from a backup together with its -wal and -mark files; nothing was changed. To start with what is left all "
                + "the same, remove \(mark.path), then check users, rules and topics"
        )
    }

    private func noteMissingMark() {
        troubles.note(
            CatalogError(
                code: .damaged,
                path: mark.path,
                message:
                    "the file is \(found == .absent ? "missing" : "unreadable"), so nobody can say whether \(path) has all its commits; "
                    + "the engine started with what is there",
                fix: "check topics, users and access rules, or restore a backup; the file was made anew"
            )
        )
    }

    private static func commits(_ db: Database) throws -> Int64? {
        guard try db.tableExists("engine_state") else { return nil }
        return try String.fetchOne(db, sql: "SELECT value FROM engine_state WHERE key = ?", arguments: [counter])
            .flatMap { Int64($0) }
    }

    // MARK: At work, on the writing connection

    /// Moves the write-ahead log into the file and notes what both hold; what was opened is whole.
    func begin(_ db: Database) throws {
        let commits = try Self.commits(db) ?? 0
        state.withLock { state in
            state.commits = commits
            if state.descriptor < 0 { state.descriptor = open(path, O_RDONLY | O_CLOEXEC) }
        }
        // A full disk does not keep the engine from starting: the log is read as well.
        if fileChanges() { _ = try? Row.fetchAll(db, sql: "PRAGMA wal_checkpoint(TRUNCATE)") }
        noteFile()
    }

    /// Runs a transaction and counts it where it changed something.
    func commit<T>(_ db: Database, _ body: (Database) throws -> T) throws -> T {
        guard db.sqliteConnection != nil else {
            throw DatabaseError(resultCode: .SQLITE_MISUSE, message: "the catalog is closed")
        }
        let before = db.totalChangesCount
        var outcome: T?
        var number: Int64?
        try db.inTransaction(.immediate) {
            outcome = try body(db)
            if db.totalChangesCount != before {
                let next = state.withLock { $0.commits } + 1
                try db.cachedStatement(
                    sql: """
                        INSERT INTO engine_state (key, value) VALUES (?, ?)
                        ON CONFLICT (key) DO UPDATE SET value = excluded.value
                        """
                ).execute(arguments: [Self.counter, String(next)])
                number = next
            }
            return .commit
        }
        guard let outcome else { throw DatabaseError(message: "a transaction had no outcome") }
        if let number { noteCommit(number, rows: db.totalChangesCount - before, db) }
        return outcome
    }

    private func noteCommit(_ number: Int64, rows: Int, _ db: Database) {
        let isDue = state.withLock { state in
            state.commits = number
            state.commitsWaiting += 1
            state.rowsWaiting += rows
            return state.commitsWaiting >= Self.commitsMax || state.rowsWaiting >= Self.rowsMax
        }
        change { $0.commits = number }
        guard isDue else { return }
        // Readers keep some of it from being moved now and then, and a full disk does; the next time comes.
        if fileChanges() { _ = try? Row.fetchAll(db, sql: "PRAGMA wal_checkpoint(PASSIVE)") }
        noteFile()
    }

    /// To be called before anything is moved into the main file, which must not happen where this is false.
    @discardableResult
    func fileChanges() -> Bool {
        change { $0.file = nil }
    }

    private func noteFile() {
        let (descriptor, commits) = state.withLock { state in
            state.commitsWaiting = 0
            state.rowsWaiting = 0
            return (state.descriptor, state.commits)
        }
        let file = descriptor < 0 ? nil : CommitMark.fingerprint(descriptor)
        change { content in
            content.commits = commits
            content.file = file
        }
    }

    /// Notes what the main file holds after the last connection was closed.
    func end() {
        noteFile()
        state.withLock { state in
            if state.descriptor >= 0 { Foundation.close(state.descriptor) }
            state.descriptor = -1
        }
    }

    @discardableResult
    private func change(_ change: (inout CommitMark.Content) -> Void) -> Bool {
        let code = mark.change(change)
        guard code != 0 else { return true }
        troubles.note(
            CatalogError(
                code: .disk,
                path: mark.path,
                message:
                    "the file cannot be written (\(String(cString: strerror(code)))): damage to the last commits may go unnoticed",
                fix: "check the disk of the data directory, and free space there"
            )
        )
        return false
    }
}
