// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import DuckDB

/// Where the keyed tables live and what they may use.
package struct LakeConfiguration: Sendable {
    /// Folder of the tables' database; made when it is absent.
    package var directory: String
    /// DuckDB's library when it is named in the settings.
    package var libraryPath: String?
    /// Virtual environments or folders to look for DuckDB's library in.
    package var libraryCandidates: [String]
    /// The most memory DuckDB may use for its buffers, in bytes.
    package var memoryBytesMax = 512 << 20
    /// The most that queries larger than memory may keep on disk, all together, in bytes.
    package var spillBytesMax = 10 << 30
    /// How many threads one query may use.
    package var threads = 2
    /// How many queries may run at once; more wait.
    package var queriesMax = 4
    /// How many statements may be open at once, which have threads of their own; more wait.
    package var statementsMax = 16
    /// How many queries may wait.
    package var queriesWaitingMax = 64
    /// How many transactions may wait to be committed.
    package var transactionsWaitingMax = 4_096
    /// How many rows may wait to be committed.
    package var rowsWaitingMax = 4_000_000
    /// How many rows one DuckDB transaction takes from those that wait.
    package var groupRowsMax = 20_000
    /// How long the writer waits for the transactions of committers that it has just answered.
    package var gatherNanoseconds: Int64 = 2_000_000
    /// Time limit of a query that names none.
    package var queryTimeout: Duration = .seconds(60)
    /// Size of the write-ahead log at which DuckDB writes a checkpoint during a commit, in bytes.
    package var checkpointBytes = 256 << 20
    /// Size of the write-ahead log from which a checkpoint is written as soon as nobody commits, in bytes.
    package var idleCheckpointBytes = 4 << 20

    /// Makes a configuration.
    package init(directory: String, libraryPath: String? = nil, libraryCandidates: [String] = []) {
        self.directory = directory
        self.libraryPath = libraryPath
        self.libraryCandidates = libraryCandidates
    }

    /// The database file.
    package var databasePath: String { directory + "/tables.duckdb" }
    /// The write-ahead log.
    package var walPath: String { databasePath + ".wal" }
    var temporaryDirectory: String { directory + "/tmp" }
    /// Folder of the append tables' files.
    package var appendDirectory: String { directory + "/append" }
    var exportDirectory: String { directory + "/exports" }
}
