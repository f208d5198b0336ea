// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// A view of the engine itself over one of its tables, `system.<name>` in SQL.
package struct SystemView: Sendable {
    /// Its name without the schema, lower case.
    package var name: String
    /// The table it reads, as SQL calls it.
    package var table: String
    /// The query of the view; `source` stands for the table's rows in a FROM clause.
    package var query: @Sendable (_ source: String) -> String

    package init(name: String, table: String, query: @escaping @Sendable (_ source: String) -> String) {
        self.name = name
        self.table = table
        self.query = query
    }
}

extension TableRuntime {
    /// Gives queries the engine's own views from now on, in place of those of a call before.
    package func setViews(_ views: [SystemView]) { registry.setViews(views) }
}
