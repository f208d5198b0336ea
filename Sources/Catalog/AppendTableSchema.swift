// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import GRDB

/// What the catalog keeps of append tables: schema versions, commits, files and how far each partition of the topic was taken.
enum AppendTableSchema {
    /// One commit is one transaction over all four tables, which is what makes a topic's table exact.
    ///
    /// A file belongs to the table from commit `added_in` until `removed_in`; AS OF reads what was there in between. `part` is 0
    /// for the table's rows and 1 for its rejects.
    static func create(_ db: Database) throws {
        try db.execute(
            sql: """
                CREATE TABLE table_schemas (
                    table_guid TEXT NOT NULL REFERENCES tables(guid) ON DELETE CASCADE,
                    version INTEGER NOT NULL,
                    columns TEXT NOT NULL,
                    PRIMARY KEY (table_guid, version)
                ) STRICT, WITHOUT ROWID;
                CREATE TABLE table_commits (
                    table_guid TEXT NOT NULL REFERENCES tables(guid) ON DELETE CASCADE,
                    number INTEGER NOT NULL,
                    kind TEXT NOT NULL,
                    time_micros INTEGER NOT NULL,
                    schema_version INTEGER NOT NULL,
                    rows_added INTEGER NOT NULL,
                    rows_removed INTEGER NOT NULL,
                    rows_rejected INTEGER NOT NULL,
                    ranges TEXT NOT NULL,
                    files_added INTEGER NOT NULL,
                    files_removed INTEGER NOT NULL,
                    bytes_added INTEGER NOT NULL,
                    files_expired INTEGER NOT NULL,
                    PRIMARY KEY (table_guid, number)
                ) STRICT, WITHOUT ROWID;
                CREATE TABLE table_files (
                    id INTEGER PRIMARY KEY AUTOINCREMENT,
                    table_guid TEXT NOT NULL REFERENCES tables(guid) ON DELETE CASCADE,
                    part INTEGER NOT NULL,
                    path TEXT NOT NULL,
                    schema_version INTEGER NOT NULL,
                    rows INTEGER NOT NULL,
                    bytes INTEGER NOT NULL,
                    statistics TEXT NOT NULL,
                    added_in INTEGER NOT NULL,
                    removed_in INTEGER,
                    UNIQUE (table_guid, path)
                ) STRICT;
                CREATE INDEX table_files_removed ON table_files(table_guid, removed_in);
                CREATE TABLE table_offsets (
                    table_guid TEXT NOT NULL REFERENCES tables(guid) ON DELETE CASCADE,
                    partition INTEGER NOT NULL,
                    next_offset INTEGER NOT NULL,
                    PRIMARY KEY (table_guid, partition)
                ) STRICT, WITHOUT ROWID;
                """
        )
    }

    /// CRC-32C of a file's bytes; NULL for files that were written before there was one.
    static func addChecksums(_ db: Database) throws {
        try db.execute(sql: "ALTER TABLE table_files ADD COLUMN checksum INTEGER")
    }
}
