// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Catalog
import Documents
package import MartletCore

/// A table as its document describes it: what `tables create` and `update` send.
///
/// Times are seconds or have a unit (`10s`, `30d`), sizes are bytes or have one (`64MiB`); the settings may stand at the top or
/// under `settings`, as `tables get` prints them.
package struct TableDocument: Sendable {
    /// Names that a new table may not take.
    package struct TakenNames: Sendable {
        /// Tables that functions keep.
        package var keyed: [String]
        /// Tables that follow a topic.
        package var following: [String]

        package init(keyed: [String], following: [String]) {
            self.keyed = keyed
            self.following = following
        }
    }

    /// What the names of a table's rejects end with.
    package static let rejectsSuffix = TableRegistry.rejectsSuffix
    /// What names of the engine's own tables in DuckDB's file begin with.
    private static let enginePrefix = "martlet_"
    /// The engine's own tables, in the schema `system`; `executions` is a view of spans, `tables` lists all tables.
    package static let systemTables = ["logs", "spans", "metrics", "executions", "engine_events", "tables"]

    package let name: String
    package let description: String
    package let tags: [String]
    package let spec: TableSpec

    /// Reads a new table; that its topic exists is left to the catalog.
    ///
    /// - Throws: `.invalid` with every fault, each with its line; `.alreadyExists` for a name that is taken.
    package init(_ document: Document, taken: TakenNames) throws(ServiceError) {
        let reader = DocumentReader(document, what: "a table")
        let (said, spec) = Self.read(reader)
        try reader.finish()
        guard let name = said.name else { throw ServiceError.invalid(field: "name", "is missing") }
        try Self.refuse(name: name, in: taken)
        self.name = name
        description = said.description ?? ""
        tags = said.tags ?? []
        self.spec = spec
    }

    /// What a document says of a table, as it says it.
    struct Said {
        var name: String?
        var topic: String?
        var description: String?
        var tags: [String]?
        var fields: TableFields
    }

    /// Reads a new table, and notes every fault.
    static func read(_ reader: DocumentReader) -> (said: Said, spec: TableSpec) {
        let name = reader.string("name", required: true)
        let topic = reader.string("topic", aliases: ["topic_name"], required: true)
        let description = reader.string("description")
        let tags = reader.strings("tags")
        if let name { check(name: name, reader) }
        let fields = TableFields(reader)
        ignoreReadOnly(reader)
        var spec = TableSpec(topic: topic.map(topicName) ?? "")
        fields.fill(&spec)
        spec = TableRules.spelled(spec)
        TableRules(reader: reader, fields: fields).check(spec)
        let said = Said(name: name, topic: topic.map(topicName), description: description, tags: tags, fields: fields)
        return (said, spec)
    }

    /// Changes a table as a document says; fields it does not have stay as they are.
    ///
    /// Columns of the document are added or widened, none is removed. `columns` are the table's columns of now, inferred ones
    /// among them: a type that is declared must be able to hold what they have.
    /// - Throws: `.invalid` with every fault, each with its line.
    package static func apply(
        _ document: Document,
        to table: inout Resource<TableSpec>,
        columns: [AppendTableSchemaVersion.Column]
    ) throws(ServiceError) {
        let reader = DocumentReader(document, what: "a table")
        let changed = change(table, reader, columns: columns).table
        try reader.finish()
        table = changed
    }

    /// Reads a change of a table, and notes every fault.
    static func change(
        _ table: Resource<TableSpec>,
        _ reader: DocumentReader,
        columns: [AppendTableSchemaVersion.Column]
    ) -> (said: Said, table: Resource<TableSpec>) {
        var table = table
        let old = table.spec
        if let name = reader.string("name"), name != table.name {
            reader.fail(
                "name",
                "table '\(table.name)' cannot be renamed to '\(name.prefix(140))'",
                fix: "leave the name out, or create another table of the same topic"
            )
        }
        let topic = reader.string("topic", aliases: ["topic_name"])
        if let topic, topicName(topic) != old.topic {
            reader.fail(
                "topic",
                "the table's rows are from '\(old.topic)', and '\(topic.prefix(140))' has other offsets",
                fix: "create another table of topic '\(topic.prefix(140))', and query both with UNION ALL BY NAME"
            )
        }
        let description = reader.string("description")
        let tags = reader.strings("tags")
        let fields = TableFields(reader)
        ignoreReadOnly(reader)
        let rules = TableRules(reader: reader, fields: fields)
        rules.refuseChanges(of: old)
        var spec = old
        let declared = fields.columns ?? []
        fields.settings.fill(&spec)
        spec.columns = rules.merge(declared, into: old, columns: columns)
        rules.check(spec)
        if old.isInternal { rules.refuseOtherRows(spec, than: old) }
        if let description { table.metadata.description = description }
        if let tags { table.metadata.tags = tags }
        table.spec = spec
        let said = Said(name: table.name, topic: old.topic, description: description, tags: tags, fields: fields)
        return (said, table)
    }

    private static func topicName(_ text: String) -> String {
        ResourceName(text)?.topicName ?? ResourceName(kind: .topics, name: text).topicName
    }

    private static func ignoreReadOnly(_ reader: DocumentReader) {
        reader.ignore("kind", "rows", "is_internal", "location", "files", "bytes", "commits", "last_commit")
        reader.ignore("schema_version", "fresh_rows", "rejected_rows", "lag_records", "lag_seconds", "state", "reason")
        reader.ignore("id", "guid", "owner", "vrn", "created_at", "updated_at")
    }

    private static func check(name: String, _ reader: DocumentReader) {
        let isUsable = name.utf8.allSatisfy { byte in
            (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
                || byte == 0x5F || byte == 0x2D
        }
        let lower = name.lowercased()
        if !isUsable || !(1...100).contains(name.utf8.count) || !("a"..."z").contains(lower.first ?? "0") {
            reader.fail(
                "name",
                "'\(name.prefix(140))' cannot name a table in SQL and a folder",
                fix: "use 1 to 100 of the letters a-z and A-Z, digits, '_' and '-', starting with a letter"
            )
        } else if lower.hasSuffix(rejectsSuffix) {
            reader.fail(
                "name",
                "names that end with '\(rejectsSuffix)' are those of rejects",
                fix: "choose another ending; the rejects of a table need not be created"
            )
        } else if lower.hasPrefix(enginePrefix) {
            reader.fail(
                "name",
                "names that begin with '\(enginePrefix)' are the engine's own",
                fix: "choose another name, such as 'my_\(lower)'"
            )
        } else if systemTables.contains(lower) || ["system", "main", "temp", "information_schema"].contains(lower) {
            reader.fail("name", "'\(name)' is the engine's own", fix: "choose another name, such as 'my_\(lower)'")
        }
    }

    /// Why a table cannot be made: a table or view has its name, or that of its rejects.
    static func isTaken(_ name: String, by other: String) -> ServiceError {
        let what = other.lowercased() == name.lowercased() ? "that name" : "the name of its rejects"
        return ServiceError(
            .alreadyExists,
            "'\(name)' cannot be made: a table or view '\(other)' has \(what)",
            fix: "choose another name, or drop what has it: martlet tables delete, or DROP in martlet sql --write",
            fields: [ServiceError.FieldError(field: "name", message: "'\(name)' is taken")]
        )
    }

    private static func refuse(name: String, in taken: TakenNames) throws(ServiceError) {
        let lower = name.lowercased()
        let found: (name: String, who: String, fix: String)
        if let keyed = taken.keyed.first(where: { $0.lowercased() == lower }) {
            found = (keyed, "functions or SQL keep its rows", "choose another name, or drop it first")
        } else if let keyed = taken.keyed.first(where: { $0.lowercased() == lower + rejectsSuffix }) {
            throw isTaken(name, by: keyed)
        } else if let other = taken.following.first(where: { $0.lowercased() == lower }) {
            let fix = "choose another name, or change the one there is with: martlet tables update \(other)"
            found = (other, "it follows a topic already", fix)
        } else {
            return
        }
        let same = found.name == name ? "" : "; upper and lower case are the same"
        throw ServiceError(
            .alreadyExists,
            "a table named '\(found.name)' exists: \(found.who)\(same)",
            fix: found.fix,
            fields: [ServiceError.FieldError(field: "name", message: "'\(name)' is taken")]
        )
    }
}
