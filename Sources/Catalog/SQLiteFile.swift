// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import GRDB
import Synchronization

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
    /// What has gone wrong and a person should know of.
    let troubles: StoreTroubles
    /// Is told of changes of resources.
    var observer: ResourceObserver?
    private let file: OpenFile

    /// Opens or makes the database and brings its schema up to date.
    ///
    /// One that is guarded is checked in full before anything is changed, and has a ``CommitMark`` beside it, by which commits that are there
    /// no more are found out.
    init(
        path: String,
        durability: CommitDurability,
        migrator: DatabaseMigrator,
        isGuarded: Bool,
        troubles: StoreTroubles = StoreTroubles()
    ) throws(CatalogError) {
        self.path = path
        self.troubles = troubles
        try Self.checkDirectory(of: path)
        let isNew = access(path, F_OK) != 0
        do {
            let guardian = isGuarded ? try CommitGuard(path: path, migrator: migrator, troubles: troubles) : nil
            let pool = try DatabasePool(path: path, configuration: Self.configuration(isGuarded: isGuarded))
            file = OpenFile(pool: pool, guardian: guardian)
            // The pool sets NORMAL when it turns WAL on, so this must come after; only the writing connection syncs.
            try pool.writeWithoutTransaction { db in
                try db.execute(sql: "PRAGMA synchronous = \(durability == .full ? "FULL" : "NORMAL")")
            }
            try pool.read { try Self.refuseNewerSchema($0, migrator, path: path) }
            try migrator.migrate(pool)
            try pool.writeWithoutTransaction { try guardian?.begin($0) }
        } catch {
            throw Self.error(error, path: path)
        }
        if isNew { Self.flushDirectory(of: path) }
    }

    func read<T: Sendable>(_ body: @escaping @Sendable (Database) throws -> T) async throws -> T {
        do { return try await file.pool.read(body) } catch { throw translated(error) }
    }

    func write<T: Sendable>(_ body: @escaping @Sendable (Database) throws -> T) async throws -> T {
        do {
            guard let guardian = file.guardian else { return try await file.pool.write(body) }
            let result = try await file.pool.writeWithoutTransaction { try guardian.commit($0, body) }
            troubles.isWritable(path)
            return result
        } catch {
            throw translated(error)
        }
    }

    /// Runs a writing transaction and rolls it back.
    func rehearse<T: Sendable>(_ body: @escaping @Sendable (Database) throws -> T) async throws -> T {
        do {
            return try await file.pool.writeWithoutTransaction { db in
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
        do { try file.close() } catch { throw translated(error) }
    }

    /// The connections, which are closed in order also where nobody asks for it.
    private final class OpenFile: Sendable {
        let pool: DatabasePool
        let guardian: CommitGuard?

        private let isClosed = Mutex(false)

        init(pool: DatabasePool, guardian: CommitGuard?) {
            self.pool = pool
            self.guardian = guardian
        }

        deinit {
            try? close()  // Nobody is left to be told.
        }

        func close() throws {
            try isClosed.withLock { isClosed in
                // Somebody else may have opened the file since.
                if isClosed { return }
                try closeOnce()
                isClosed = true
            }
        }

        private func closeOnce() throws {
            let guardian = guardian
            // Refused while a reader is at work; then the log stays and the next opening reads it. By SQL, because GRDB's own
            // call passes a null pointer to SQLite when the store is closed already (7.10.0).
            var mayMove = true
            try? pool.writeWithoutTransaction { db in
                mayMove = guardian?.fileChanges() ?? true
                if mayMove { try db.execute(sql: "PRAGMA wal_checkpoint(TRUNCATE)") }
            }
            guard mayMove else {
                // Closing would move the log into the file, which then would not be what the mark says, and the next start would refuse
                // it. What the process leaves open when it ends stays as it is.
                _ = Unmanaged.passRetained(pool)
                return
            }
            try pool.close()
            guardian?.end()
        }
    }

    /// What services report for an error of the database; other errors pass through.
    func translated(_ error: any Error) -> any Error {
        switch error {
        case let error as CatalogError: error.serviceError
        case is DatabaseError: noted(Self.error(error, path: path)).serviceError
        default: error
        }
    }

    private func noted(_ error: CatalogError) -> CatalogError {
        troubles.note(error)
        return error
    }

    private static func configuration(isGuarded: Bool) -> Configuration {
        var configuration = Configuration()
        configuration.busyMode = .timeout(5)
        configuration.maximumReaderCount = 4
        configuration.prepareDatabase { db in
            try db.execute(sql: "PRAGMA cell_size_check = ON")
            // The guard has to know when the main file changes.
            if isGuarded { try db.execute(sql: "PRAGMA wal_autocheckpoint = 0") }
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

    static func refuseNewerSchema(_ db: Database, _ migrator: DatabaseMigrator, path: String) throws {
        guard try migrator.hasBeenSuperseded(db) else { return }
        throw CatalogError(
            code: .newerSchema,
            path: path,
            message: "the file was written by a newer Martlet and this one does not know its schema",
            fix: "start the newer Martlet again, or restore the data directory from before its upgrade"
        )
    }

    static func flushDirectory(of path: String) {
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
        case .SQLITE_IOERR:
            return CatalogError(
                code: .disk,
                path: path,
                message: "reading, writing or flushing failed: \(text) (code \(error.extendedResultCode.rawValue))",
                fix: "check the disk of the data directory and the space on it"
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

    static func damaged(_ path: String, _ reason: String) -> CatalogError {
        CatalogError(
            code: .damaged,
            path: path,
            message: "the file is damaged: \(reason)",
            fix: "restore it from a backup together with its -wal and -mark files; nothing was changed"
        )
    }
}
