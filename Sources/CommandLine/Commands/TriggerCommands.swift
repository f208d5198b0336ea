// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MartletCore

struct TriggersCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration.group(
        "triggers",
        "What turns files and times into events.",
        [
            CreateTriggerGroup.self, ListTriggers.self, GetTrigger.self, UpdateTrigger.self,
            DeleteCommand<TriggerNoun>.self,
        ],
        aliases: ["trigger"]
    )
    init() {}
}

/// Options of element and schedule triggers, apart from those whose short names differ between commands.
struct TriggerFields: ParsableArguments {
    @Option(
        name: [.customLong("events"), .customLong("event")],
        help:
            "ObjectCreated:*, ObjectRemoved:*, ObjectTagging:Put, ObjectTagging:Delete; repeatable, or separated by commas.",
        completion: .list(["ObjectCreated:*", "ObjectRemoved:*", "ObjectTagging:Put", "ObjectTagging:Delete"])
    )
    var events: [String] = []
    @Option(name: .long, help: "Key must start with this; repeatable.") var namePrefix: [String] = []
    @Option(name: .long, help: "Key must end with this; repeatable.") var nameSuffix: [String] = []
    @Option(name: .long, help: "A tag must start with this; repeatable.") var tagPrefix: [String] = []
    @Option(name: .long, help: "A tag must end with this; repeatable.") var tagSuffix: [String] = []
    @Option(
        name: [.customLong("cron-schedule"), .customLong("cron")],
        help: "Cron of 5, 6 or 7 fields, Quartz included."
    )
    var cronSchedule: String?
    @Option(
        name: [.customLong("time-zone"), .customLong("timezone")],
        help: "IANA time zone of the schedule (default UTC)."
    )
    var timeZone: String?
    @Option(name: .long, help: "Fires missed while the engine was down: skip, once or all.") var missedFires: String?
    @Option(name: .long, help: "Put on every event: NAME=VALUE or @FILE; repeatable.") var customExtension: [String] =
        []
    @Option(name: .long, help: "Tags, separated by commas; repeatable.") var tags: [String] = []
    @Option(name: .long, help: "What it is for.") var description: String?
    @Option(
        name: [.customShort("f"), .long],
        help: "YAML or JSON file (- for standard input); options win.",
        completion: .file()
    )
    var fromFile: String?

    func object(name: String?, type: String?, view: String?, topic: String?, session: Session) throws -> JSONObject {
        var fields = FieldBuilder()
        fields.set("name", name)
        fields.set("type", type)
        fields.set("source_bucket_name", view)
        fields.set("events", list: FieldBuilder.split(events))
        var names = FieldBuilder()
        names.set("prefixes", list: namePrefix)
        names.set("suffixes", list: nameSuffix)
        var marks = FieldBuilder()
        marks.set("prefixes", list: tagPrefix)
        marks.set("suffixes", list: tagSuffix)
        var config = FieldBuilder()
        config.set("name_filters", object: names.object)
        config.set("tag_filters", object: marks.object)
        config.set("cron_schedule", cronSchedule)
        config.set("time_zone", timeZone)
        config.set("missed_fires", missedFires)
        fields.set("config", object: config.object)
        fields.set("topic_name", topic)
        let pairs = try FieldBuilder.pairs(customExtension, option: "--custom-extension", session: session)
        fields.set("custom_extensions", object: pairs)
        fields.set("tags", list: FieldBuilder.split(tags))
        fields.set("description", description)
        return fields.object
    }
}

extension EngineClient {
    fileprivate func noteBroker(type: String?, name: String?, url: String?) throws {
        let reason = "topics live in the engine's own log"
        try noteUnused([
            ("--broker-type", type.map { $0.lowercased() != "internal" } ?? false, reason),
            ("--broker-name", name != nil, reason),
            ("--broker-url", url != nil, reason),
        ])
    }

    fileprivate func createTrigger(_ fields: JSONObject, file: String?) async throws {
        let body = try body(fields, file: file, needs: ["name", "type"])
        let request = APIRequest("POST", ["triggers"], body: body)
        guard let item = try await write(TriggerNoun.display, request, verb: "created") else { return }
        if isHuman, !options.silent { try await printFireTimes(item) }
    }

    /// The next ten fire times of a schedule; nothing for other triggers.
    fileprivate func fireTimes(_ item: JSONValue) async throws -> [String] {
        guard item["type"]?.stringValue?.lowercased() == "schedule", let name = item["name"]?.stringValue else {
            return []
        }
        let answer = try await get(["triggers", name, "fire-times"], query: [("count", "10")])
        return Self.items(answer).compactMap(\.stringValue)
    }

    fileprivate func printFireTimes(_ item: JSONValue) async throws {
        let times = try await fireTimes(item)
        guard !times.isEmpty else { return }
        try session.output.line("\n" + style.bold("Next fire times (UTC)"))
        for time in times { try session.output.line("  " + (Quantity.time(time) ?? time)) }
    }
}

struct CreateTriggerGroup: AsyncParsableCommand {
    static let configuration = CommandConfiguration.group(
        "create",
        "Make a trigger.",
        [CreateTrigger.self, CreateElementTrigger.self, CreateScheduleTrigger.self],
        defaultSubcommand: CreateTrigger.self,
        discussion: """
            Takes the options of 'create any' directly; 'create element' and 'create schedule' have short options of their own.

            Examples:
              martlet triggers create -t Element -n new-frames --source-bucket renders --events 'ObjectCreated:*' --name-suffix .exr
              martlet triggers create -t Schedule -n hourly --cron-schedule '0 * * * *' --time-zone Europe/Zurich
              martlet triggers create element -n new-frames -s renders --name-suffix .exr
              martlet triggers create -f trigger.yaml
            """
    )
}

struct CreateTrigger: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "any",
        "Make a trigger of the type --type names.",
        discussion: "The words 'any' may be left out. Without --topic the engine's default topic is used.",
        examples: [
            "martlet triggers create -t Element -n new-frames --source-bucket renders --name-suffix .exr --name-suffix .EXR",
            "martlet triggers create -t Schedule -n hourly --cron-schedule '0 * * * *'",
        ]
    )

    @Option(name: [.short, .long], help: "Element or Schedule.", completion: .list(["Element", "Schedule"])) var type:
        String?
    @Option(name: [.short, .long], help: "Name of the trigger.") var name: String?
    @Option(
        name: [.customLong("source-bucket"), .customLong("view")],
        help: "View to watch.",
        completion: .custom(ResourceNames.complete("views"))
    )
    var sourceBucket: String?
    @Option(
        name: [.customLong("topic"), .customLong("topic-name")],
        help: "Topic for the events.",
        completion: .custom(ResourceNames.complete("topics"))
    )
    var topic: String?
    @Option(name: .long, help: "Accepted, without effect.") var brokerName: String?
    @Option(name: .long, help: "Accepted, without effect.") var brokerType: String?
    @Option(name: .long, help: "Accepted, without effect.") var brokerUrl: String?
    @Option(name: .long, help: "Accepted, without effect.") var sourceTypes: String?
    @OptionGroup var fields: TriggerFields
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        try client.noteBroker(type: brokerType, name: brokerName, url: brokerUrl)
        var type = try type.map { try TriggerType.normalise($0) }
        if type == nil, fields.fromFile == nil {
            type = fields.cronSchedule != nil ? "Schedule" : sourceBucket != nil ? "Element" : nil
        }
        let object = try fields.object(
            name: name,
            type: type,
            view: sourceBucket,
            topic: topic,
            session: client.session
        )
        try await client.createTrigger(object, file: fields.fromFile)
    }
}

struct CreateElementTrigger: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "element",
        "Make a trigger for the files of a view.",
        examples: [
            "martlet triggers create element -n new-frames -s renders --events 'ObjectCreated:*' --name-suffix .exr"
        ]
    )

    @Option(name: [.short, .long], help: "Name of the trigger.") var name: String?
    @Option(
        name: [.customShort("s"), .customLong("source-bucket"), .customLong("view")],
        help: "View to watch.",
        completion: .custom(ResourceNames.complete("views"))
    )
    var sourceBucket: String?
    @Option(
        name: [.customShort("t"), .customLong("topic-name"), .customLong("topic")],
        help: "Topic for the events.",
        completion: .custom(ResourceNames.complete("topics"))
    )
    var topicName: String?
    @Option(name: [.customShort("b"), .long], help: "Accepted, without effect.") var brokerType: String?
    @Option(name: [.customShort("m"), .long], help: "Accepted, without effect.") var brokerName: String?
    @Option(name: [.customShort("u"), .long], help: "Accepted, without effect.") var brokerUrl: String?
    @Option(name: .long, help: "Accepted, without effect.") var sourceTypes: String?
    @OptionGroup var fields: TriggerFields
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        try client.noteBroker(type: brokerType, name: brokerName, url: brokerUrl)
        let object = try fields.object(
            name: name,
            type: "Element",
            view: sourceBucket,
            topic: topicName,
            session: client.session
        )
        try await client.createTrigger(object, file: fields.fromFile)
    }
}

struct CreateScheduleTrigger: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "schedule",
        "Make a trigger for times.",
        examples: [
            "martlet triggers create schedule -n hourly --cron-schedule '0 * * * *'",
            "martlet triggers create schedule -n payday --cron-schedule '0 0 9 LW * ?' --time-zone Europe/Zurich",
        ]
    )

    @Option(name: [.short, .long], help: "Name of the trigger.") var name: String?
    @Option(
        name: [.customShort("t"), .customLong("topic-name"), .customLong("topic")],
        help: "Topic for the events.",
        completion: .custom(ResourceNames.complete("topics"))
    )
    var topicName: String?
    @Option(name: [.customShort("b"), .long], help: "Accepted, without effect.") var brokerType: String?
    @Option(name: [.customShort("m"), .long], help: "Accepted, without effect.") var brokerName: String?
    @Option(name: [.customShort("u"), .long], help: "Accepted, without effect.") var brokerUrl: String?
    @OptionGroup var fields: TriggerFields
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        try client.noteBroker(type: brokerType, name: brokerName, url: brokerUrl)
        let object = try fields.object(
            name: name,
            type: "Schedule",
            view: nil,
            topic: topicName,
            session: client.session
        )
        try await client.createTrigger(object, file: fields.fromFile)
    }
}

struct ListTriggers: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "list",
        "List triggers.",
        examples: ["martlet triggers list", "martlet triggers list -t Schedule -o json"],
        aliases: ["ls"]
    )

    @Option(name: [.short, .long], help: "Only Element or Schedule.", completion: .list(["Element", "Schedule"]))
    var type: String?
    @OptionGroup(title: "List Options") var list: ListOptions
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        let type = try type.map { try TriggerType.normalise($0) }
        try await client.list(TriggerNoun.display, list, query: [("type", type)])
    }
}

struct GetTrigger: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "get",
        "Show a trigger; for a schedule also its next ten fire times.",
        examples: ["martlet triggers get hourly", "martlet triggers get hourly -o json"],
        aliases: ["show"]
    )

    @Argument(help: "Name, GUID or resource name.", completion: .custom(ResourceNames.complete("triggers"))) var id:
        String
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        var item = try await client.get(["triggers", id])
        guard !client.isHuman else {
            try client.print(item) { TriggerNoun.display.fieldList(item).text(style: client.style) }
            return try await client.printFireTimes(item)
        }
        let times = try await client.fireTimes(item)
        if !times.isEmpty, var object = item.objectValue {
            object["next_fire_times"] = .array(times.map { .string($0) })
            item = .object(object)
        }
        try client.print(item) { "" }
    }
}

struct UpdateTrigger: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "update",
        "Change a trigger; what is not named stays.",
        examples: [
            "martlet triggers update hourly --cron-schedule '*/10 * * * *'",
            "martlet triggers update new-frames -f trigger.yaml",
        ]
    )

    @Argument(help: "Name, GUID or resource name.", completion: .custom(ResourceNames.complete("triggers"))) var id:
        String
    @Option(name: [.short, .long], help: "Element or Schedule; a trigger's type does not change.") var type: String?
    @Option(
        name: [.customShort("s"), .customLong("source-bucket"), .customLong("view")],
        help: "View to watch.",
        completion: .custom(ResourceNames.complete("views"))
    )
    var sourceBucket: String?
    @Option(
        name: [.customLong("topic"), .customLong("topic-name")],
        help: "Topic for the events.",
        completion: .custom(ResourceNames.complete("topics"))
    )
    var topic: String?
    @Option(name: .long, help: "Accepted, without effect.") var brokerName: String?
    @Option(name: .long, help: "Accepted, without effect.") var brokerType: String?
    @Option(name: .long, help: "Accepted, without effect.") var brokerUrl: String?
    @OptionGroup var fields: TriggerFields
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        try client.noteBroker(type: brokerType, name: brokerName, url: brokerUrl)
        let object = try fields.object(
            name: nil,
            type: try type.map { try TriggerType.normalise($0) },
            view: sourceBucket,
            topic: topic,
            session: client.session
        )
        let body = try client.body(object, file: fields.fromFile, needs: [])
        try await client.write(TriggerNoun.display, APIRequest("PUT", ["triggers", id], body: body), verb: "updated")
    }
}

/// Names of trigger types as people write them.
enum TriggerType {
    static func normalise(_ text: String) throws -> String {
        switch text.lowercased() {
        case "element", "elements": return "Element"
        case "schedule", "cron", "scheduled": return "Schedule"
        default: throw CommandFailure.usage("'\(text)' is no trigger type", fix: "use Element or Schedule")
        }
    }
}
