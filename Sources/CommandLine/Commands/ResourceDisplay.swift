// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore

/// How resources of one kind are shown to people.
struct ResourceDisplay: Sendable {
    /// A column of lists or a line of details.
    struct Field: Sendable {
        var title: String
        var isFlexible = false
        var isRight = false
        var value: @Sendable (JSONValue) -> String?

        init(
            _ title: String,
            isFlexible: Bool = false,
            isRight: Bool = false,
            value: @escaping @Sendable (JSONValue) -> String?
        ) {
            self.title = title
            self.isFlexible = isFlexible
            self.isRight = isRight
            self.value = value
        }

        /// A field shown as it is, by key.
        static func key(_ title: String, _ key: String, isFlexible: Bool = false, isRight: Bool = false) -> Self {
            Self(title, isFlexible: isFlexible, isRight: isRight) { text($0[key]) }
        }
    }

    var kind: String
    /// The noun for one, lower case.
    var noun: String
    var columns: [Field]
    var details: [Field]

    init(kind: String, noun: String, columns: [Field], details: [Field]) {
        self.kind = kind
        self.noun = noun
        self.columns = columns
        self.details = details
    }

    /// The noun at the start of a line.
    var title: String { noun.prefix(1).uppercased() + noun.dropFirst() }

    /// A list as a table.
    func table(_ items: [JSONValue]) -> TextTable {
        TextTable(
            columns: columns.map {
                .init($0.title, isRight: $0.isRight, isFlexible: $0.isFlexible, isStatus: $0.title == "Status")
            },
            rows: items.map { item in columns.map { $0.value(item) ?? "-" } }
        )
    }

    /// One resource, every field on its line.
    func fieldList(_ item: JSONValue) -> FieldList {
        var list = FieldList()
        list.add("Name", item["name"]?.stringValue)
        for field in details { list.add(field.title, field.value(item)) }
        list.add("Description", item["description"]?.stringValue)
        list.add("Tags", Self.text(item["tags"]))
        list.add("GUID", item["guid"]?.stringValue)
        list.add("Owner", item["owner"]?["name"]?.stringValue)
        list.add("Created At", Quantity.time(item["created_at"]?.stringValue))
        list.add("Updated At", Quantity.time(item["updated_at"]?.stringValue))
        list.add("VRN", item["vrn"]?.stringValue)
        return list
    }

    /// Any value in one line; nil for what is absent or empty.
    static func text(_ value: JSONValue?) -> String? {
        switch value {
        case nil, .null?: nil
        case .string(let text)?: text.isEmpty ? nil : text
        case .bool(let flag)?: flag ? "yes" : "no"
        case .array(let elements)?: elements.isEmpty ? nil : elements.compactMap { text($0) }.joined(separator: ", ")
        case .object(let object)?:
            object.isEmpty ? nil : object.members.map { "\($0.key)=\(text($0.value) ?? "")" }.joined(separator: ", ")
        case let value?: value.text
        }
    }

    static let guid = Field.key("GUID", "guid")
    static let description = Field.key("Description", "description", isFlexible: true)
    static let updated = Field("Updated at") { Quantity.time($0["updated_at"]?.stringValue) }
    static let status = Field.key("Status", "status")
    static let reason = Field.key("Reason", "reason", isFlexible: true)
}

/// A kind of resource, as a type, for the commands all kinds have in common.
protocol ResourceNoun: Sendable {
    static var display: ResourceDisplay { get }
    /// A name the examples in help use.
    static var example: String { get }
}

enum ViewNoun: ResourceNoun {
    static let example = "renders"
    static let display = ResourceDisplay(
        kind: "views",
        noun: "view",
        columns: [
            .key("View Name", "name"), ResourceDisplay.status, .key("Path", "path", isFlexible: true),
            ResourceDisplay.description, ResourceDisplay.guid, ResourceDisplay.updated,
        ],
        details: [ResourceDisplay.status, ResourceDisplay.reason, .key("Path", "path")]
    )
}

enum TriggerNoun: ResourceNoun {
    static let example = "new-frames"
    static let display = ResourceDisplay(
        kind: "triggers",
        noun: "trigger",
        columns: [
            .key("Trigger Name", "name"), ResourceDisplay.status, .key("Type", "type"), ResourceDisplay.description,
            ResourceDisplay.guid, ResourceDisplay.updated,
        ],
        details: [
            ResourceDisplay.status, ResourceDisplay.reason, .key("Type", "type"), .key("View", "source_bucket_name"),
            .key("Events", "events"),
            .init("Name Prefixes") { ResourceDisplay.text($0["config"]?["name_filters"]?["prefixes"]) },
            .init("Name Suffixes") { ResourceDisplay.text($0["config"]?["name_filters"]?["suffixes"]) },
            .init("Tag Prefixes") { ResourceDisplay.text($0["config"]?["tag_filters"]?["prefixes"]) },
            .init("Tag Suffixes") { ResourceDisplay.text($0["config"]?["tag_filters"]?["suffixes"]) },
            .init("Cron Schedule") { item in
                let config = item["config"]
                return ResourceDisplay.text(config?["cron_expression"])
                    ?? ResourceDisplay.text(config?["cron_schedule"])
            },
            .init("Cron Normalised") { item in
                let config = item["config"]
                let normal = ResourceDisplay.text(config?["cron_schedule"])
                return normal == ResourceDisplay.text(config?["cron_expression"]) ? nil : normal
            },
            .init("Time Zone") { ResourceDisplay.text($0["config"]?["time_zone"]) },
            .init("Missed Fires") { ResourceDisplay.text($0["config"]?["missed_fires"]) },
            .key("Topic", "topic_name"), .key("Custom Extensions", "custom_extensions"),
        ]
    )
}

enum FunctionNoun: ResourceNoun {
    static let example = "exr-inspector"
    static let display = ResourceDisplay(
        kind: "functions",
        noun: "function",
        columns: [
            .key("Function Name", "name"), ResourceDisplay.description,
            .key("Revision", "last_revision_number", isRight: true), ResourceDisplay.guid, ResourceDisplay.updated,
        ],
        details: [
            .key("Runtime", "runtime"), .key("Last Revision", "last_revision_number"),
            .key("Last Published Revision", "last_published_revision_number"),
            .key("Default Revision", "default_revision_number"),
        ]
    )
}

enum PipelineNoun: ResourceNoun {
    static let example = "inspect-frames"
    static let display = ResourceDisplay(
        kind: "pipelines",
        noun: "pipeline",
        columns: [
            .key("Pipeline Name", "name"), ResourceDisplay.status, ResourceDisplay.description, ResourceDisplay.guid,
            ResourceDisplay.updated,
        ],
        details: [
            ResourceDisplay.status, ResourceDisplay.reason, .key("Last Revision", "last_revision_number"),
            .key("Deployed Revision", "deployed_revision_number"),
            .init("Uses") { item in
                let uses = item["uses"]?.arrayValue ?? []
                return uses.compactMap { use in
                    guard let name = use["name"]?.stringValue else { return nil }
                    let kind = (use["kind"]?.stringValue).flatMap(ResourceKind.init(rawValue:))?.noun
                    return kind.map { "\($0) \(name)" } ?? name
                }.joined(separator: "\n")
            },
        ]
    )
}

enum TopicNoun: ResourceNoun {
    static let example = "frames"
    static let display = ResourceDisplay(
        kind: "topics",
        noun: "topic",
        columns: [
            .key("Topic Name", "name"), .key("Partitions", "partitions", isRight: true),
            .init("Retention", value: retention), .init("Use", value: use), ResourceDisplay.description,
            ResourceDisplay.guid, ResourceDisplay.updated,
        ],
        details: [
            .key("Partitions", "partitions"), .init("Retention", value: retention),
            .init("Retention Size") { item in
                (item["retention_bytes"]?.intValue).map { Quantity.size(bytes: $0) + " a partition" }
            },
            .init("Settings") { item in
                let set = item["configs"]?.objectValue?.members ?? []
                return set.isEmpty ? nil : set.map { "\($0.key)=\($0.value.stringValue ?? "")" }.joined(separator: ", ")
            },
            .init("Use", value: use), .key("Kafka Topic ID", "kafka_topic_id"),
        ]
    )

    @Sendable private static func retention(_ item: JSONValue) -> String? {
        guard let milliseconds = item["retention_milliseconds"]?.intValue else { return "for ever" }
        if milliseconds % 86_400_000 == 0 { return "\(milliseconds / 86_400_000) d" }
        let (micros, isTooLong) = milliseconds.multipliedReportingOverflow(by: 1000)
        return isTooLong ? "\(milliseconds) ms" : Quantity.duration(microseconds: micros)
    }

    @Sendable private static func use(_ item: JSONValue) -> String? {
        let uses = [("is_default", "default"), ("is_dead_letter", "dead letters"), ("is_internal", "internal")]
        let text = uses.filter { item[$0.0]?.boolValue == true }.map(\.1).joined(separator: ", ")
        return text.isEmpty ? nil : text
    }
}

enum SecretNoun: ResourceNoun {
    static let example = "vast-db"
    static let display = ResourceDisplay(
        kind: "secrets",
        noun: "secret",
        columns: [
            .key("Secret Name", "name"), .key("Keys", "keys", isFlexible: true), ResourceDisplay.description,
            ResourceDisplay.guid, ResourceDisplay.updated,
        ],
        details: [.key("Keys", "keys")]
    )
}
