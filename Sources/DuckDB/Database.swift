// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import CDuckDB

/// How a database is opened.
package struct DatabaseConfiguration: Sendable, Hashable {
    /// The most memory DuckDB may use for its buffers, in bytes.
    package var memoryBytesMax: Int
    /// How many threads one query may use.
    package var threads: Int
    /// Where larger-than-memory queries spill; nil lets DuckDB choose a folder beside the file.
    package var temporaryDirectory: String?
    /// The most that queries may spill there in all, in bytes; nil lets DuckDB take most of the free disk.
    package var spillBytesMax: Int?
    /// Size of the write-ahead log at which DuckDB writes a checkpoint by itself, in bytes.
    package var checkpointBytes: Int
    /// Opens an existing file without writing to it.
    package var isReadOnly: Bool
    /// The only directories whose files SQL may read and write; nil allows all that the process may.
    package var fileDirectories: [String]?
    /// Names of further databases in memory, gone when the database is closed.
    package var memoryDatabases: [String]

    /// Makes a configuration.
    package init(
        memoryBytesMax: Int = 1 << 30,
        threads: Int = 2,
        temporaryDirectory: String? = nil,
        spillBytesMax: Int? = nil,
        checkpointBytes: Int = 64 << 20,
        isReadOnly: Bool = false,
        fileDirectories: [String]? = nil,
        memoryDatabases: [String] = []
    ) {
        self.memoryBytesMax = memoryBytesMax
        self.threads = threads
        self.temporaryDirectory = temporaryDirectory
        self.spillBytesMax = spillBytesMax
        self.checkpointBytes = checkpointBytes
        self.isReadOnly = isReadOnly
        self.fileDirectories = fileDirectories
        self.memoryDatabases = memoryDatabases
    }

    /// DuckDB's options; extensions are never downloaded or loaded by themselves.
    var options: [(String, String)] {
        var options = [
            ("memory_limit", "\(memoryBytesMax)B"),
            ("threads", String(threads)),
            ("checkpoint_threshold", "\(checkpointBytes)B"),
            ("access_mode", isReadOnly ? "READ_ONLY" : "AUTOMATIC"),
            ("autoinstall_known_extensions", "false"),
            ("autoload_known_extensions", "false"),
            ("allow_community_extensions", "false"),
            ("allow_unsigned_extensions", "false"),
        ]
        if let temporaryDirectory { options.append(("temp_directory", temporaryDirectory)) }
        return options
    }
}

/// An open DuckDB database: one file, or memory.
///
/// Several may be open in one process, each with its own file. It closes when the last connection to it is gone.
package final class Database: Sendable {
    /// The library the database runs in.
    package let library: DuckDBLibrary
    /// The file, or nil for a database in memory.
    package let path: String?

    // SAFETY: written once in init and freed once in deinit, when nobody else has a reference; DuckDB's database object is
    // safe to use from several threads.
    nonisolated(unsafe) private let handle: duckdb_database

    /// Opens or creates a database file, or one in memory when `path` is nil.
    ///
    /// Blocks while DuckDB reads the file and replays its write-ahead log.
    /// - Throws: ``DuckDBError`` `locked` when another process has it open, `damaged` or `cannotOpen`.
    package init(library: DuckDBLibrary, path: String?, configuration: DatabaseConfiguration) throws(DuckDBError) {
        let api = library.functions
        var config: duckdb_config?
        guard api.pointee.create_config(&config) == 0 else {
            throw DuckDBError(.outOfMemory, "DuckDB has no memory for a configuration.")
        }
        defer { api.pointee.destroy_config(&config) }
        for (name, value) in configuration.options {
            guard api.pointee.set_config(config, name, value) == 0 else {
                throw DuckDBError(.invalidInput, "DuckDB \(library.version) refuses the setting \(name)=\(value).")
            }
        }
        var database: duckdb_database?
        var message: UnsafeMutablePointer<CChar>?
        guard api.pointee.open_ext(path, &database, config, &message) == 0, let database else {
            let reason = message.map { String(cString: $0) } ?? "no reason given"
            api.pointee.free(message)
            throw Self.openingError(reason, path: path)
        }
        self.library = library
        self.path = path
        handle = database
        try boundSpill(to: configuration.spillBytesMax)
        try prepare(configuration)
    }

    /// Sets the bound on an open database: given with the other options, DuckDB 2.0.0 shows it and does not hold it.
    private func boundSpill(to bytes: Int?) throws(DuckDBError) {
        guard let bytes else { return }
        try connect().execute("SET GLOBAL max_temp_directory_size = '\(bytes)B'")
    }

    /// Attaches the databases in memory, then shuts the file system except for some directories, and then the settings, until the
    /// database is closed.
    private func prepare(_ configuration: DatabaseConfiguration) throws(DuckDBError) {
        let connection = try connect()
        for name in configuration.memoryDatabases {
            try connection.execute("ATTACH ':memory:' AS \(SQLText.identifier(name))")
        }
        // Times without a zone are UTC here: compared with `now()` they must not be taken for the machine's own.
        try connection.execute("SET GLOBAL TimeZone = 'UTC'")
        if let directories = configuration.fileDirectories {
            let list = directories.map { SQLText.literal($0.hasSuffix("/") ? $0 : $0 + "/") }.joined(separator: ", ")
            try connection.execute(
                "SET GLOBAL allowed_directories = [\(list)]; SET GLOBAL enable_external_access = false"
            )
        }
        let names = Self.progressSettings.map { SQLText.literal($0.name) }.joined(separator: ", ")
        // Harmless for whoever sets them; a library that does not know the setting gives no progress.
        try? connection.execute("SET GLOBAL allowed_configs = [\(names)]")
        try connection.execute("SET GLOBAL lock_configuration = true")
    }

    /// What a connection sets to have its progress counted, and printed nowhere.
    static let progressSettings = [
        (name: "enable_progress_bar", value: "true"), (name: "enable_progress_bar_print", value: "false"),
        (name: "progress_bar_time", value: "0"),
    ]

    deinit {
        var database: duckdb_database? = handle
        library.functions.pointee.close(&database)
    }

    /// Opens a connection, which is to be used by one thread at a time.
    package func connect() throws(DuckDBError) -> Connection {
        var connection: duckdb_connection?
        guard library.functions.pointee.connect(handle, &connection) == 0, let connection else {
            throw DuckDBError(.outOfMemory, "DuckDB cannot open another connection to \(path ?? "memory").")
        }
        return Connection(database: self, handle: connection)
    }

    func addReplacementScan(
        _ callback: duckdb_replacement_callback,
        _ context: UnsafeMutableRawPointer,
        _ release: duckdb_delete_callback
    ) {
        library.functions.pointee.add_replacement_scan(handle, callback, context, release)
    }

    /// DuckDB tells these cases apart by text alone, so the code is chosen by it here and nowhere else.
    private static func openingError(_ reason: String, path: String?) -> DuckDBError {
        let file = path ?? "memory"
        if reason.contains("Could not set lock") || reason.contains("Conflicting lock") {
            return DuckDBError(.locked, "The database \(file) is in use by another process. Stop it first. (\(reason))")
        }
        let marks = ["not a valid DuckDB", "Corrupt", "corrupt", "checksum", "serializ", "Failure while replaying WAL"]
        if marks.contains(where: { reason.contains($0) }) {
            return DuckDBError(
                .damaged,
                "The database \(file) is damaged or not a DuckDB file; nothing was changed. Restore it from a backup or move "
                    + "it and its .wal file away. (\(reason))"
            )
        }
        return DuckDBError(.cannotOpen, "The database \(file) cannot be opened: \(reason)")
    }
}
