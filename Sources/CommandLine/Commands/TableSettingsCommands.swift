// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MartletCore

/// Options that can be given when a table is made, and later.
struct TableSettingFields: ParsableArguments {
    @Option(
        name: .long,
        help:
            "Declare a column: NAME=TYPE with BOOLEAN, BIGINT, HUGEINT, DOUBLE, DECIMAL(w,s), VARCHAR, JSON, DATE or TIMESTAMP; repeatable.",
        completion: .custom(TableValues.completeColumn)
    )
    var column: [String] = []
    @Option(
        name: [.customLong("unknown"), .customLong("unknown-fields")],
        help: "A field that is no column: add it (default), reject the record, or ignore the field.",
        completion: .list(["add", "reject", "ignore"])
    )
    var unknown: String?
    @Option(
        name: .long,
        help: "With a key: a record with this value in this field deletes its row, such as op=delete."
    )
    var deleteWhen: [String] = []
    @Option(name: .long, help: "Commit rows at the latest after this time (default 10s).") var commitEvery: String?
    @Option(name: .long, help: "Commit rows earlier when this much waits (default 64MiB).") var commitSize: String?
    @Option(name: .long, help: "How long rows stay, such as 30d; 'forever' (default) keeps them.") var retention:
        String?
    @Option(name: .long, help: "Size above which the oldest files go, such as 10GiB; 'none' (default) is no limit.")
    var retentionSize: String?
    @Option(name: .long, help: "How long commits can be read AS OF (default 1d).") var history: String?
    @Option(name: .long, help: "What it is for.") var description: String?
    @Option(name: .long, help: "Tags, separated by commas; repeatable.") var tags: [String] = []
    @Option(
        name: [.customShort("f"), .long],
        help: "YAML or JSON file (- for standard input); options win.",
        completion: .file()
    )
    var fromFile: String?

    func validate() throws {
        guard deleteWhen.count < 2 else {
            throw ValidationError("--delete-when is given \(deleteWhen.count) times, and a table has one such rule.")
        }
    }

    func set(in fields: inout FieldBuilder) throws {
        let columns = try FieldBuilder.pairs(column, option: "--column", session: nil, foldsCase: true)
        fields.set("columns", object: columns)
        fields.set("unknown_fields", unknown)
        fields.set("delete_rule", deleteWhen.first)
        fields.set("commit_seconds", commitEvery)
        fields.set("commit_bytes", commitSize)
        fields.set("retention", retention)
        fields.set("retention_bytes", retentionSize)
        fields.set("history_seconds", history)
        fields.set("description", description)
        fields.set("tags", list: FieldBuilder.split(tags))
    }
}

struct CreateTable: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "create",
        "Make a table that follows a topic.",
        discussion: """
            Every record becomes one row in Parquet files, exactly once; SQL sees it at once. Columns are found in the JSON of the records, \
            or declared with --column. Records that do not fit go to the table NAME__rejected. With --key the table has one row a key instead.
            """,
        examples: [
            "martlet tables create trips --topic rides",
            "martlet tables create trips -t rides --partition-by hour --retention 30d",
            "martlet tables create trips -t rides --column 'fare=DECIMAL(18,2)'",
            "martlet tables create trips -t rides --column city=VARCHAR --partition-by city",
            "martlet tables create people -t people --column id=VARCHAR --key id",
            "martlet tables create frames -t frames --format raw", "martlet tables create -f trips.yaml",
        ]
    )

    @Argument(help: "Name of the table.") var positionalName: String?
    @Option(name: [.short, .long], help: "Name of the table.") var name: String?
    @Option(
        name: [.short, .customLong("topic"), .customLong("topic-name")],
        help: "Topic to follow.",
        completion: .custom(ResourceNames.complete("topics"))
    )
    var topic: String?
    @Option(
        name: .long,
        help: "How values are read: json (default), or raw for key, value and headers as bytes.",
        completion: .list(["json", "raw"])
    )
    var format: String?
    @Option(name: .long, help: "A declared column that is the key, for one row a key; repeatable.") var key: [String] =
        []
    @Option(
        name: .long,
        help:
            "A folder for each hour or day (default) of the records, or value of a declared column; repeatable, or none.",
        completion: .list(["hour", "day", "none"])
    )
    var partitionBy: [String] = []
    @Option(
        name: .long,
        help: "The first records to take: earliest (default) or latest.",
        completion: .list(["earliest", "latest"])
    )
    var start: String?
    @OptionGroup var settings: TableSettingFields
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        var fields = FieldBuilder()
        fields.set("name", name ?? positionalName)
        fields.set("topic", topic)
        fields.set("format", format)
        fields.set("key", list: FieldBuilder.split(key))
        fields.set("partition_by", list: FieldBuilder.split(partitionBy))
        fields.set("start", start)
        try settings.set(in: &fields)
        let body = try client.body(fields.object, file: settings.fromFile, needs: ["name", "topic"])
        guard let item = try await client.send(APIRequest("POST", ["tables"], body: body)) else { return }
        try client.confirm(item) {
            let name = item["name"]?.stringValue ?? ""
            return "Table created: \(client.style.bold(Sanitizer.clean(name)))\n"
                + TableOverview(item).fields().text(style: client.style) + "\n"
                + "Look at its rows:  martlet sql 'from \(Sanitizer.clean(TableOverview.sqlName(name))) limit 10'\n"
        }
    }
}

struct UpdateTable: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "update",
        "Change a table's settings, add columns or widen them.",
        discussion: """
            What is not named stays. A column's type can become one that holds all its values: anything VARCHAR or JSON; BIGINT also HUGEINT, \
            DOUBLE or DECIMAL; DATE also TIMESTAMP. Topic, format, key and partitions stay as the table was made.
            """,
        examples: [
            "martlet tables update trips --retention 90d --commit-every 1m",
            "martlet tables update trips --column fare=VARCHAR",
            "martlet tables update trips -f trips.yaml",
        ]
    )

    @Argument(help: "Name of the table.", completion: .custom(ResourceNames.complete("tables"))) var table: String
    @OptionGroup var settings: TableSettingFields
    @OptionGroup var fixed: FixedTableFields
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        var fields = FieldBuilder()
        try settings.set(in: &fields)
        let body = try client.body(fields.object, file: settings.fromFile, needs: [])
        guard let item = try await client.send(APIRequest("PUT", ["tables", table], body: body)) else { return }
        try client.confirm(item) {
            let name = Sanitizer.clean(item["name"]?.stringValue ?? "")
            return "Table updated: \(client.style.bold(name))\n"
                + TableOverview(item).fields().text(style: client.style)
        }
    }
}

/// Options of `tables create` that `tables update` knows only to say that they cannot be changed.
struct FixedTableFields: ParsableArguments {
    @Option(name: [.short, .customLong("topic"), .customLong("topic-name")], help: .hidden) var topic: String?
    @Option(name: .long, help: .hidden) var key: [String] = []
    @Option(name: .long, help: .hidden) var format: String?
    @Option(name: .long, help: .hidden) var partitionBy: [String] = []
    @Option(name: .long, help: .hidden) var start: String?
    @Option(name: [.short, .long], help: .hidden) var name: String?

    func validate() throws {
        let given = [
            ("--topic", "topic", topic != nil), ("--key", "key", !key.isEmpty), ("--format", "format", format != nil),
            ("--partition-by", "partitions", !partitionBy.isEmpty), ("--start", "start", start != nil),
            ("--name", "name", name != nil),
        ]
        guard let (option, noun, _) = given.first(where: \.2) else { return }
        throw ValidationError(
            "\(option): the \(noun) of a table stays as the table was made; make another one that reads the topic from its start, "
                + "with: martlet tables create NAME --topic TOPIC"
        )
    }
}

/// Values that shells complete.
enum TableValues {
    private static let types = [
        "BOOLEAN", "BIGINT", "HUGEINT", "DOUBLE", "DECIMAL(18,2)", "VARCHAR", "JSON", "DATE", "TIMESTAMP",
    ]

    /// `NAME=` with each type behind it; nothing before the name is written.
    static let completeColumn: @Sendable ([String], Int, String) async -> [String] = { _, _, prefix in
        guard let equals = prefix.firstIndex(of: "="), equals > prefix.startIndex else { return [] }
        return types.map { "\(prefix[...equals])\($0)" }.filter { $0.lowercased().hasPrefix(prefix.lowercased()) }
    }
}
