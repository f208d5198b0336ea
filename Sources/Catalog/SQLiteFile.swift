// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import GRDB

/// How much of a commit survives a power failure; the death of the process alone loses nothing in either.
package enum CommitDurability: Sendable {
    /// A commit is on disk when it returns.
    case full
    /// The newest commits may be lost, whole, when the power fails.
    case relaxed
}

/// One SQLite database in WAL mode: opening, migrating, and errors a person can act on.
struct SQLiteFile: Sendable {
    let path: String
    let pool: DatabasePool
    /// Is told of changes of resources.
    var observer: ResourceObserver?

    /// Opens or makes the database and brings its schema up to date.
    init(path: String, durability: CommitDurability, migrator: DatabaseMigrator, checksContent: Bool)
        throws(CatalogError)
    {
        self.path = path
        try Self.checkDirectory(of: path)
        let isNew = access(path, F_OK) != 0
        do {
            pool = try DatabasePool(path: path, configuration: Self.configuration())
            // The pool sets NORMAL when it turns WAL on, so this must come after; only the writing connection syncs.
            try pool.writeWithoutTransaction { db in
                try db.execute(sql: "PRAGMA synchronous = \(durability == .full ? "FULL" : "NORMAL")")
            }
            try pool.read { db in
                if try migrator.hasBeenSuperseded(db) {
                    throw CatalogError(
                        code: .newerSchema,
                        path: path,
                        message: "the file was written by a newer Martlet and this one does not know its schema",
                        fix: "start the newer Martlet again, or restore the data directory from before its upgrade"
                    )
                }
                if checksContent { try Self.checkContent(db, path: path) }
            }
            try migrator.migrate(pool)
        } catch {
            throw Self.error(error, path: path)
        }
        if isNew { Self.flushDirectory(of: path) }
    }

    func read<T: Sendable>(_ body: @escaping @Sendable (Database) throws -> T) async throws -> T {
        do { return try await pool.read(body) } catch { throw translated(error) }
    }

    func write<T: Sendable>(_ body: @escaping @Sendable (Database) throws -> T) async throws -> T {
        do { return try await pool.write(body) } catch { throw translated(error) }
    }

    /// Runs a writing transaction and rolls it back.
    func rehearse<T: Sendable>(_ body: @escaping @Sendable (Database) throws -> T) async throws -> T {
        do {
            return try await pool.writeWithoutTransaction { db in
                try db.beginTransaction(.immediate)
                do {
                    let result = try body(db)
                    try db.rollback()
                    return result
                } catch {
                    try db.rollback()
                    throw error
                }
            }
        } catch {
            throw translated(error)
        }
    }

    /// Moves the write-ahead log into the file, so that the file alone is whole, and closes.
    func close() throws {
        // Refused while a reader is at work; then the log stays and the next opening reads it. By SQL, because GRDB's own
        // call passes a null pointer to SQLite when the store is closed already (7.10.0).
        try? pool.writeWithoutTransaction { try $0.execute(sql: "PRAGMA wal_checkpoint(TRUNCATE)") }
        do { try pool.close() } catch { throw translated(error) }
    }

    /// What services report for an error of the database; other errors pass through.
    func translated(_ error: any Error) -> any Error {
        switch error {
        case let error as CatalogError: error.serviceError
        case is DatabaseError: Self.error(error, path: path).serviceError
        default: error
        }
    }

    private static func configuration() -> Configuration {
        var configuration = Configuration()
        configuration.busyMode = .timeout(5)
        configuration.maximumReaderCount = 4
        configuration.prepareDatabase { db in
            try db.execute(sql: "PRAGMA cell_size_check = ON")
        }
        return configuration
    }

    private static func checkDirectory(of path: String) throws(CatalogError) {
        let directory = (path as NSString).deletingLastPathComponent
        var status = stat()
        guard stat(directory, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
            throw CatalogError(
                code: .noDirectory,
                path: path,
                message: "the directory \(directory) does not exist",
                fix: "create it, or choose another data directory"
            )
        }
        let isThere = access(path, F_OK) == 0
        if access(directory, W_OK) != 0 || (isThere && access(path, W_OK) != 0) {
            throw readOnly(path, String(cString: strerror(errno)))
        }
    }

    private static func checkContent(_ db: Database, path: String) throws {
        let findings = try String.fetchAll(db, sql: "PRAGMA quick_check(3)")
        guard findings == ["ok"] else { throw damaged(path, findings.joined(separator: "; ")) }
    }

    private static func flushDirectory(of path: String) {
        let descriptor = Foundation.open((path as NSString).deletingLastPathComponent, O_RDONLY | O_DIRECTORY)
        guard descriptor >= 0 else { return }
        fsync(descriptor)
        Foundation.close(descriptor)
    }

    static func error(_ error: any Error, path: String) -> CatalogError {
        if let error = error as? CatalogError { return error }
        guard let error = error as? DatabaseError else {
            return CatalogError(
                code: .failed,
                path: path,
                message: "\(error)",
                fix: "look at the engine's log for what happened before"
            )
        }
        let text = error.message ?? "SQLite error \(error.extendedResultCode.rawValue)"
        switch error.resultCode {
        case .SQLITE_CORRUPT, .SQLITE_NOTADB: return damaged(path, text)
        case .SQLITE_READONLY, .SQLITE_CANTOPEN, .SQLITE_PERM: return readOnly(path, text)
        case .SQLITE_BUSY, .SQLITE_LOCKED:
            return CatalogError(
                code: .busy,
                path: path,
                message: "another process holds the file: \(text)",
                fix: "close the program that has it open"
            )
        case .SQLITE_FULL:
            return CatalogError(
                code: .full,
                path: path,
                message: "the disk is full; nothing was changed",
                fix: "free space on the disk of the data directory"
            )
        case .SQLITE_MISUSE:
            return CatalogError(
                code: .closed,
                path: path,
                message: "the store is closed",
                fix: "wait until the engine has started again"
            )
        default:
            return CatalogError(
                code: .failed,
                path: path,
                message: "SQLite: \(text) (code \(error.extendedResultCode.rawValue))",
                fix: "check the disk of the data directory"
            )
        }
    }

    private static func readOnly(_ path: String, _ reason: String) -> CatalogError {
        CatalogError(
            code: .readOnly,
            path: path,
            message: "the file cannot be written: \(reason)",
            fix: "give the user that runs Martlet write permission on the directory and the files in it"
        )
    }

    private static func damaged(_ path: String, _ reason: String) -> CatalogError {
        CatalogError(
            code: .damaged,
            path: path,
            message: "the file is damaged: \(reason)",
            fix: "restore it from a backup together with its -wal file; nothing was changed"
        )
    }
}
