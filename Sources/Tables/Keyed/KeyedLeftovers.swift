// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
package import Lake

/// What DuckDB has of keyed tables whose resource is gone, because a crash came between the catalog and DuckDB.
package enum KeyedLeftovers {
    /// The tables that are left, each with the GUID its resource had.
    private struct Leftover {
        var name: String
        var guid: String
    }

    /// Removes them.
    ///
    /// `known` gives the GUIDs of the tables there are. It is asked after DuckDB, so that a table made meanwhile, which the catalog has
    /// first, is among them. What was found may still be gone by the time it is removed, and its name another table's.
    package static func sweep(_ lake: Lake, keeping known: () async throws -> Set<String>) async throws {
        guard try await lake.tableNames().contains(KeyedStore.offsetsTable) else { return }
        let rows = try await lake.query("SELECT DISTINCT \"table\", guid FROM \(KeyedStore.offsetsTable)").rows()
        let guids = try await known()
        let gone = rows.map { Leftover(name: $0[0].text, guid: $0[1].text) }.filter { !guids.contains($0.guid) }
        guard !gone.isEmpty else { return }
        try await lake.transact(changesTables: true) { connection in
            for leftover in gone {
                // Rows, rejects and positions come and go in one transaction: where the positions of a GUID are gone, so is the rest.
                let owners = try owners(of: leftover.name, connection)
                guard owners.contains(leftover.guid) else { continue }
                let names = [leftover.name, leftover.name + TableRegistry.rejectsSuffix]
                try KeyedStore.drop(owners == [leftover.guid] ? names : [], leftover.guid, connection)
            }
        }
    }

    private static func owners(of name: String, _ connection: Connection) throws -> [String] {
        try connection.query(
            "SELECT DISTINCT guid FROM \(KeyedStore.offsetsTable) WHERE lower(\"table\") = lower(?)",
            [.string(name)]
        ).rows().map { $0[0].text }
    }
}
