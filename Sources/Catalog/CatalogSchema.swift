// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import GRDB
import MartletCore

/// The catalog's tables; a migration that was released is never changed, only followed by another.
enum CatalogSchema {
    static var migrator: DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("1-resources") { db in
            for kind in ResourceKind.allCases where kind != .tables { try createTable(of: kind, db) }
            try createReferences(db)
            try createRevisionIndexes(db)
        }
        migrator.registerMigration("1-bundles") { db in
            try db.execute(
                sql: """
                    CREATE TABLE bundles (
                        id INTEGER PRIMARY KEY AUTOINCREMENT,
                        name TEXT NOT NULL,
                        tag TEXT NOT NULL,
                        digest TEXT NOT NULL,
                        path TEXT NOT NULL,
                        description TEXT NOT NULL,
                        created_micros INTEGER NOT NULL,
                        UNIQUE (name, tag)
                    ) STRICT;
                    CREATE INDEX bundles_digest ON bundles(digest);
                    """
            )
        }
        migrator.registerMigration("1-engine-state") { db in
            try db.execute(
                sql: "CREATE TABLE engine_state (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID"
            )
        }
        migrator.registerMigration("1-secret-values") { db in
            try db.execute(
                sql: """
                    CREATE TABLE secret_values (
                        secret_guid TEXT NOT NULL REFERENCES secrets(guid) ON DELETE CASCADE,
                        key TEXT NOT NULL,
                        sealed BLOB NOT NULL,
                        PRIMARY KEY (secret_guid, key)
                    ) STRICT, WITHOUT ROWID
                    """
            )
        }
        migrator.registerMigration("2-tables") { db in
            try createTable(of: .tables, db)
            try AppendTableSchema.create(db)
        }
        migrator.registerMigration("3-table-file-checksums") { db in try AppendTableSchema.addChecksums(db) }
        migrator.registerMigration("4-kafka-access") { try createKafkaAccess($0) }
        return migrator
    }

    /// The table of a kind.
    static func table(_ kind: ResourceKind) -> String {
        switch kind {
        case .views: "views"
        case .triggers: "triggers"
        case .functions: "functions"
        case .functionRevisions: "function_revisions"
        case .pipelines: "pipelines"
        case .pipelineRevisions: "pipeline_revisions"
        case .topics: "topics"
        case .secrets: "secrets"
        case .tables: "tables"
        }
    }

    private static func createTable(of kind: ResourceKind, _ db: Database) throws {
        try db.execute(
            sql: """
                CREATE TABLE \(table(kind)) (
                    id INTEGER PRIMARY KEY AUTOINCREMENT,
                    guid TEXT NOT NULL UNIQUE,
                    name TEXT NOT NULL UNIQUE,
                    description TEXT NOT NULL,
                    tags TEXT NOT NULL,
                    owner TEXT NOT NULL,
                    created_micros INTEGER NOT NULL,
                    updated_micros INTEGER NOT NULL,
                    spec TEXT NOT NULL
                ) STRICT
                """
        )
    }

    private static func createReferences(_ db: Database) throws {
        // Columns outside the primary key come last: SQLite 3.40.1's quick_check reports NULLs that are not there in a WITHOUT ROWID
        // table of another order, and a sound file would be refused as damaged.
        try db.execute(
            sql: """
                CREATE TABLE resource_references (
                    user_kind TEXT NOT NULL,
                    user_guid TEXT NOT NULL,
                    kind TEXT NOT NULL,
                    name TEXT NOT NULL,
                    user_name TEXT NOT NULL,
                    PRIMARY KEY (user_kind, user_guid, kind, name)
                ) STRICT, WITHOUT ROWID;
                CREATE INDEX resource_references_target ON resource_references(kind, name);
                """
        )
    }

    private static func createRevisionIndexes(_ db: Database) throws {
        for (table, owner) in [("function_revisions", "function_guid"), ("pipeline_revisions", "pipeline_guid")] {
            try db.execute(
                sql: """
                    CREATE UNIQUE INDEX \(table)_number ON \(table)(
                        json_extract(spec, '$.\(owner)'), json_extract(spec, '$.revision_number')
                    )
                    """
            )
        }
    }
}
