// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Documents
package import MartletCore

/// The tables that manifests declare, as those who keep them read, make and remove them.
package protocol ManifestTables: Sendable {
    /// Reads one entry of `tables`, which has the fields of `tables create`; notes what is wrong at its place in the manifest.
    ///
    /// Where a table of that name exists, what cannot become of it is wrong too.
    /// - Returns: What the entry says, or nil where too much of it is wrong.
    func read(_ entry: DocumentReader) -> PipelineManifest.Table?
    /// Makes the table for a pipeline, named by its GUID, or changes what the manifest says of the one there is; returns when that is
    /// durable.
    ///
    /// - Returns: What was done; nil where nothing had to be.
    func apply(
        _ table: PipelineManifest.Table,
        of pipeline: String,
        by caller: Caller
    ) async throws -> ManifestTableChange?
    /// Names of the tables that deployments of a pipeline made and that are still there, ordered; those that were there before are
    /// not among them.
    func made(by pipeline: String) async throws -> [String]
    /// Removes a table with its rows; one that is gone is no error.
    func delete(_ name: String, by caller: Caller) async throws
}

/// What a deployment did to one table.
package struct ManifestTableChange: Sendable {
    /// The table's name.
    package let table: String
    /// Whether it was made; otherwise it was changed.
    package let isNew: Bool
    /// Removes what was made, or gives back the settings from before.
    ///
    /// Returns what stays changed all the same, as the end of a sentence about the table; nil where nothing does.
    package let putBack: @Sendable () async throws -> String?

    package init(table: String, isNew: Bool, putBack: @escaping @Sendable () async throws -> String?) {
        self.table = table
        self.isNew = isNew
        self.putBack = putBack
    }
}

extension PipelineManifestReader {
    /// Reads `tables` of a manifest.
    static func readTables(
        _ body: DocumentReader,
        _ tables: (any ManifestTables)?,
        _ references: inout ManifestReferences
    ) -> [PipelineManifest.Table] {
        var found: [PipelineManifest.Table] = []
        for entry in entries(body, "tables", what: "a table", shorthand: "name") {
            guard let tables else {
                entry.fail("", "this engine keeps no tables of topics", fix: "leave 'tables' out")
                continue
            }
            guard let table = tables.read(entry) else { continue }
            if let other = found.first(where: { $0.name.lowercased() == table.name.lowercased() }) {
                let also = other.name == table.name ? "" : " as '\(other.name)': case does not count"
                entry.fail("name", "table '\(table.name)' is declared already\(also)", fix: "keep one of them")
                continue
            }
            let field = written(entry, "topic", ["topic_name"])
            references.add(.topics, table.topic, field: entry.path(of: field), line: entry.line(of: field))
            found.append(table)
        }
        return found
    }
}
