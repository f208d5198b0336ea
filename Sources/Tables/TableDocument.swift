// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0
import Catalog
import MartletCore
enum TableDocument {
    struct Draft { var name = ""; var description = ""; var tags: [String] = []; var spec: TableSpec }
    static func create(_ document: Document) throws -> Draft {
        let v = document.value
        return Draft(
            name: v["name"]?.stringValue ?? "",
            spec: TableSpec(
                topic: v["topic"]?.stringValue ?? "",
                commitSeconds: Int(v["commit_seconds"]?.intValue ?? 10)
            )
        )
    }
    static func update(
        _ document: Document,
        _ resource: inout Resource<TableSpec>,
        columns: [AppendTableSchemaVersion.Column]
    ) throws {}
}
