// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import MartletCore

/// How declared columns change those a table has.
enum TableColumns {
    /// The columns with the types of the declared ones; declared columns that are new stand at the end.
    static func merged(
        _ columns: [AppendTableSchemaVersion.Column],
        declared: [TableSpec.Column]
    ) -> [AppendTableSchemaVersion.Column] {
        var merged = columns
        for column in declared {
            if let index = merged.firstIndex(where: { $0.name.lowercased() == column.name.lowercased() }) {
                merged[index].type = column.type
                merged[index].isDeclared = true
            } else {
                merged.append(.init(name: column.name, type: column.type, isDeclared: true))
            }
        }
        return merged
    }

    /// The columns of each version.
    static func byVersion(
        _ schemas: [AppendTableSchemaVersion]
    ) -> [Int: [AppendTableSchemaVersion.Column]] {
        Dictionary(schemas.map { ($0.version, $0.columns) }, uniquingKeysWith: { _, last in last })
    }
}
