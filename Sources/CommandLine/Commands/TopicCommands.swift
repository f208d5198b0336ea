// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MartletCore

struct TopicsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration.group(
        "topics",
        "Where events are kept.",
        [
            ListTopics.self, GetTopic.self, CreateTopic.self, UpdateTopic.self, DeleteCommand<TopicNoun>.self,
            PublishToTopic.self,
            ProduceToTopic.self, ConsumeTopic.self, TailTopic.self, ListTopicSettings.self, DeleteTopicRecords.self,
        ],
        aliases: ["topic"]
    )
    init() {}
}

struct ListTopics: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "list",
        "List topics.",
        discussion: "Topics whose names begin with two underscores are the engine's own, and are listed with --all.",
        examples: ["martlet topics list", "martlet topics list --all", "martlet topics list --name frames -o json"],
        aliases: ["ls"]
    )
    @Option(name: [.customShort("d"), .long], help: "Accepted, without effect.") var databaseName: String?
    @Flag(name: [.short, .long], help: "The engine's own topics too.") var all = false
    @OptionGroup(title: "List Options") var list: ListOptions
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        try client.noteUnused([("--database-name", databaseName != nil, "an engine has one set of topics")])
        if all { return try await client.list(TopicNoun.display, list) }
        var shown: [JSONValue] = []
        var cursor = list.cursor
        repeat {
            let (items, next) = try await client.pages(
                ["topics"],
                query: [("name", list.name)],
                limit: list.limit.map { $0 - shown.count },
                cursor: cursor
            )
            shown += items.filter { $0["name"]?.stringValue?.hasPrefix("__") != true }
            cursor = next
        } while cursor != nil && list.limit.map { shown.count < $0 } ?? false
        try client.printList(shown, next: cursor, noun: "topic") { TopicNoun.display.table(shown) }
    }
}

struct GetTopic: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "get",
        "Show a topic and its partitions.",
        examples: ["martlet topics get frames", "martlet topics get frames -o yaml"],
        aliases: ["show"]
    )
    @Argument(help: "Name, GUID or resource name.", completion: .custom(ResourceNames.complete("topics"))) var id:
        String
    @Option(name: [.customShort("d"), .long], help: "Accepted, without effect.") var databaseName: String?
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        try client.noteUnused([("--database-name", databaseName != nil, "an engine has one set of topics")])
        let item = try await client.get(["topics", id])
        let partitions = EngineClient.items(try await client.get(["topics", id, "partitions"]))
        var object = item.objectValue ?? JSONObject()
        object["partition_offsets"] = .array(partitions)
        try client.print(.object(object)) {
            let table = TextTable(
                columns: ["Partition", "Start offset", "End offset", "Records", "Size"].map {
                    .init($0, isRight: true)
                },
                rows: partitions.map { partition in
                    let start = partition["start_offset"]?.intValue ?? 0
                    let end = partition["end_offset"]?.intValue ?? 0
                    return [
                        ResourceDisplay.text(partition["partition"]) ?? "-", "\(start)", "\(end)", "\(end &- start)",
                        (partition["size_bytes"]?.intValue).map { Quantity.size(bytes: $0) } ?? "-",
                    ]
                }
            )
            return TopicNoun.display.fieldList(item).text(style: client.style) + "\n"
                + table.text(width: client.width, style: client.style)
        }
    }
}

/// Options that fill in a topic.
struct TopicFields: ParsableArguments {
    @Option(
        name: [.short, .long],
        parsing: .unconditional,
        help: "How many partitions; more can be added later, none removed."
    )
    var partitions: Int?
    @Option(name: [.customLong("retention")], help: "How long records stay, such as 12h or 7d; 'forever' keeps them.")
    var retention: String?
    @Option(name: .long, parsing: .unconditional, help: "Most bytes a partition keeps; -1 is no limit.")
    var retentionBytes: Int?
    @Option(
        name: .long,
        help:
            "Setting by Kafka's name as name=value; repeatable, an empty value is the default. List them with: martlet topics configs NAME",
        completion: .list(TopicFields.settings.map { $0 + "=" })
    )
    var config: [String] = []
    @Option(name: .long, help: "What it is for.") var description: String?
    @Option(name: .long, help: "Tags, separated by commas; repeatable.") var tags: [String] = []
    @Option(
        name: [.customShort("f"), .long],
        help: "YAML or JSON file (- for standard input); options win.",
        completion: .file()
    )
    var fromFile: String?

    /// Settings that do something, for completion.
    private static let settings = [
        "cleanup.policy", "delete.retention.ms", "martlet.durability", "max.compaction.lag.ms", "max.message.bytes",
        "message.timestamp.type", "min.cleanable.dirty.ratio", "min.compaction.lag.ms", "retention.bytes",
        "retention.ms", "segment.bytes", "segment.ms",
    ]

    /// Refuses a setting that is given by an option of its own and by its name.
    func validate() throws {
        for (name, option, isGiven) in [
            ("retention.ms", "--retention", retention != nil),
            ("retention.bytes", "--retention-bytes", retentionBytes != nil),
        ] where isGiven && config.contains(where: { $0.hasPrefix(name + "=") }) {
            throw ValidationError("\(option) and --config \(name) are the same setting; give one of them.")
        }
    }

    func object(name: String?) throws -> JSONObject {
        var fields = FieldBuilder()
        fields.set("name", name)
        fields.set("partitions", partitions)
        fields.set("retention_bytes", retentionBytes)
        fields.set("configs", object: try FieldBuilder.pairs(config, option: "--config", session: nil))
        fields.set("description", description)
        fields.set("tags", list: FieldBuilder.split(tags))
        var object = fields.object
        if let retention {
            if ["forever", "none", "unlimited"].contains(retention.lowercased()) {
                object["retention_milliseconds"] = .int(-1)
            } else {
                guard let micros = TimeSpan.microseconds(retention), micros >= 1_000_000 else {
                    throw CommandFailure.usage(
                        "--retention '\(retention)' is no span of time",
                        fix: "write it like 12h or 7d, at least a second; 'forever' keeps records for ever"
                    )
                }
                object["retention_milliseconds"] = .int(micros / 1000)
            }
        }
        return object
    }
}

struct CreateTopic: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "create",
        "Make a topic.",
        examples: [
            "martlet topics create frames --partitions 8 --retention 14d", "martlet topics create -f topic.yaml",
            "martlet topics create users --config cleanup.policy=compact",
        ]
    )
    @Argument(help: "Name of the topic.") var positionalName: String?
    @Option(name: [.short, .long], help: "Name of the topic.") var name: String?
    @OptionGroup var fields: TopicFields
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func validate() throws {
        guard name == nil || positionalName == nil else {
            throw ValidationError("The name is given twice: \(positionalName ?? "") and --name \(name ?? "").")
        }
    }

    func execute(_ client: EngineClient) async throws {
        let object = try fields.object(name: name ?? positionalName)
        let body = try client.body(object, file: fields.fromFile, needs: ["name"])
        try await client.write(TopicNoun.display, APIRequest("POST", ["topics"], body: body), verb: "created")
    }
}

struct UpdateTopic: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "update",
        "Change a topic's retention, settings, description or tags.",
        examples: ["martlet topics update frames --retention 30d"]
    )
    @Argument(help: "Name, GUID or resource name.", completion: .custom(ResourceNames.complete("topics"))) var id:
        String
    @OptionGroup var fields: TopicFields
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        let body = try client.body(try fields.object(name: nil), file: fields.fromFile, needs: [])
        try await client.write(TopicNoun.display, APIRequest("PUT", ["topics", id], body: body), verb: "updated")
    }
}

struct PublishToTopic: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "publish",
        "Put events into a topic.",
        discussion: """
            A file holds one event (attributes and 'data' at its top level) or a list of them; --data makes one event of a JSON value. \
            Missing id, source and time are filled in, and a type: \(EventDocument.publishedType). The events are on disk when the command ends.
            """,
        examples: [
            "martlet topics publish frames -e cloudevent.yaml",
            "martlet topics publish frames --data '{\"msg\":\"hello\"}' --event-type example.com:Test",
            "martlet topics publish frames -g",
        ]
    )
    @Argument(help: "Name, GUID or resource name.", completion: .custom(ResourceNames.complete("topics"))) var id:
        String
    @Option(
        name: [.customShort("e"), .customShort("f"), .customLong("event"), .customLong("from-file")],
        help: "File with events (- for standard input)."
    )
    var event: String?
    @Option(name: .long, help: "JSON value to send as the data of one event.") var data: String?
    @Flag(name: [.customShort("g"), .long], help: "Send a generated event.") var generateEvent = false
    @Option(name: [.customShort("t"), .long], help: "Type of the events.") var eventType: String?
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func validate() throws {
        let sources = [event != nil, data != nil, generateEvent].filter(\.self).count
        guard sources == 1 else { throw ValidationError("Give exactly one of --event, --data and --generate-event.") }
    }

    func execute(_ client: EngineClient) async throws {
        let body: APIRequest.Body
        if let event {
            let file = try InputFile(event, session: client.session)
            let (written, isList) = try WrittenEvent.read(file)
            let events = try written.enumerated().map { index, item in
                let name = isList ? "\(file.name), event \(index + 1)" : file.name
                return try EventDocument(completing: item, name: name, type: eventType)
            }
            if isList {
                body = .init(bytes: EventDocument.batch(events), contentType: "application/cloudevents-batch+json")
            } else {
                body = Self.body(events[0])
            }
        } else if let data {
            guard let written = try? WrittenEvent(data: data) else {  // Refused right here.
                throw CommandFailure.usage("--data is not JSON", fix: "quote text: --data '\"text\"'")
            }
            body = Self.body(try EventDocument(completing: written, name: "--data", type: eventType))
        } else {
            body = Self.body(EventDocument(generatedOf: eventType))
        }
        guard let answer = try await client.send(APIRequest("POST", ["topics", id, "events"], body: body)) else {
            return
        }
        try client.confirm(answer) {
            let count = answer["count"]?.intValue ?? 0
            return "Published \(count) \(count == 1 ? "event" : "events") to \(Sanitizer.clean(id))\n"
        }
    }

    private static func body(_ event: EventDocument) -> APIRequest.Body {
        .init(bytes: event.bytes, contentType: "application/cloudevents+json")
    }
}
