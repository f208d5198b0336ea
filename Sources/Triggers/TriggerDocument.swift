// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Documents
import Foundation
import MartletCore

/// A trigger as people write it: flat or with `config`, under any of the names in use.
struct TriggerDocument {
    var name: String?
    var description: String?
    var tags: [String]?
    var type: TriggerSpec.Source?
    var view: String?
    var events: [String]?
    var nameFilters: TriggerSpec.Filters?
    var tagFilters: TriggerSpec.Filters?
    var cron: String?
    var timeZone: String?
    var missedFires: String?
    var topic: String?
    var customExtensions: [String: String]?

    /// Extensions and attributes that events have of their own.
    private static let reserved: Set<String> = [
        "id", "source", "type", "subject", "time", "specversion", "datacontenttype", "dataschema", "data", "database64",
        "elementpath", "elementhandle", "elementsourcetype", "elementurl", "traceparent", "tracestate", "cronschedule",
        "timerelapsedtimestamp", "partitionkey", "knativekafkaoffset", "knativekafkapartition",
    ]

    init(_ document: Document) throws(ServiceError) {
        let reader = DocumentReader(document, what: "a trigger")
        name = reader.string("name")
        description = reader.string("description")
        tags = reader.strings("tags")
        if let text = reader.string("type") {
            switch text.lowercased() {
            case "element", "s3", "file", "object": type = .element
            case "schedule", "cron", "timer": type = .schedule
            default: reader.fail("type", "'\(text)' is not a type of trigger", fix: "write Element or Schedule")
            }
        }
        view = reader.string("source_bucket_name", aliases: ["source_bucket", "view", "bucket", "source_view"])
            .map(Self.plainName)
        events = Self.events(reader)
        readFilters(reader)
        readSchedule(reader, isNested: false)
        topic = reader.string("topic_name", aliases: ["topic"]).map(Self.plainName)
        customExtensions = Self.extensions(reader)
        if let config = reader.object("config", what: "the config of a trigger") { readConfig(config) }
        if let broker = reader.object("broker", what: "a broker") { broker.ignore("type", "name", "url", "guid", "id") }
        // What existing files and answers carry besides; a trigger of this engine has one broker and one source.
        reader.ignore(
            "broker_type",
            "broker_name",
            "broker_url",
            "source_types",
            "source_type",
            "id",
            "guid",
            "owner",
            "vrn",
            "status",
            "reason",
            "created_at",
            "updated_at",
            "tenant_guid"
        )
        try reader.finish()
    }

    private mutating func readConfig(_ config: DocumentReader) {
        if let filters = config.object("name_filters", what: "filters") {
            nameFilters = Self.merge(nameFilters, Self.filters(filters))
        }
        if let filters = config.object("tag_filters", what: "filters") {
            tagFilters = Self.merge(tagFilters, Self.filters(filters))
        }
        readFilters(config)
        readSchedule(config, isNested: true)
        if customExtensions == nil { customExtensions = Self.extensions(config) }
    }

    private mutating func readFilters(_ reader: DocumentReader) {
        func list(_ one: String, _ many: String) -> [String]? { reader.strings(many, aliases: [one]) }
        let names = (list("name_prefix", "name_prefixes"), list("name_suffix", "name_suffixes"))
        let tags = (list("tag_prefix", "tag_prefixes"), list("tag_suffix", "tag_suffixes"))
        if names.0 != nil || names.1 != nil {
            nameFilters = Self.merge(nameFilters, .init(prefixes: names.0 ?? [], suffixes: names.1 ?? []))
        }
        if tags.0 != nil || tags.1 != nil {
            tagFilters = Self.merge(tagFilters, .init(prefixes: tags.0 ?? [], suffixes: tags.1 ?? []))
        }
    }

    private mutating func readSchedule(_ reader: DocumentReader, isNested: Bool) {
        // A resource that was read and is written back carries both; what the user wrote counts.
        let written = reader.string("cron_expression")
        let given = reader.string("cron_schedule", aliases: ["cron", "schedule"])
        if let text = Self.cron(given: given, stored: written) {
            cron = text
            do {
                _ = try CronExpression(text)
            } catch {
                reader.fail(given == nil ? "cron_expression" : "cron_schedule", error.reason, fix: error.fix)
            }
        }
        if let zone = reader.string("time_zone", aliases: ["timezone", "tz"]) {
            do {
                timeZone = try ZoneName.zone(zone).identifier
                if timeZone == "GMT" { timeZone = "UTC" }
            } catch {
                reader.fail("time_zone", error.reason, fix: error.fix)
            }
        }
        missedFires = reader.choice("missed_fires", of: ["skip", "once", "all"]) ?? missedFires
    }

    /// What the user wrote, unless the schedule beside it was changed.
    private static func cron(given: String?, stored: String?) -> String? {
        guard let given else { return stored }
        // An expression that cannot be read is reported as it was given.
        guard let stored, let old = try? CronExpression(stored), let new = try? CronExpression(given),
            old.normalized == new.normalized
        else { return given }
        return stored
    }

    private static func events(_ reader: DocumentReader) -> [String]? {
        guard let texts = reader.strings("events", aliases: ["event"]) else { return nil }
        var stored: Set<String> = []
        for text in texts {
            if let name = ElementEventName.stored(text) {
                stored.insert(name)
            } else {
                reader.fail(
                    reader.has("events") ? "events" : "event",
                    "'\(text.prefix(80))' is not an event of elements",
                    fix: "write any of \(ElementEventName.all.joined(separator: ", "))"
                )
            }
        }
        return ElementEventName.all.filter { stored.contains($0) }
    }

    private static func filters(_ reader: DocumentReader) -> TriggerSpec.Filters {
        TriggerSpec.Filters(
            prefixes: reader.strings("prefixes", aliases: ["prefix"]) ?? [],
            suffixes: reader.strings("suffixes", aliases: ["suffix"]) ?? []
        )
    }

    private static func merge(_ left: TriggerSpec.Filters?, _ right: TriggerSpec.Filters) -> TriggerSpec.Filters {
        guard let left else { return right }
        return TriggerSpec.Filters(prefixes: left.prefixes + right.prefixes, suffixes: left.suffixes + right.suffixes)
    }

    private static func extensions(_ reader: DocumentReader) -> [String: String]? {
        let field = "custom_extensions"
        guard let pairs = reader.map(field, aliases: ["custom_extension"]) else { return nil }
        var extensions: [String: String] = [:]
        for (name, value) in pairs {
            let bytes = name.utf8
            let isValid =
                (1...20).contains(bytes.count) && bytes.first.map { (0x61...0x7A).contains($0) } == true
                && bytes.allSatisfy { (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) }
            if !isValid {
                reader.fail(
                    "\(field).\(name)",
                    "'\(name.prefix(80))' is not a name of an extension",
                    fix: "use 1 to 20 lower-case letters and digits, starting with a letter"
                )
            } else if reserved.contains(name) {
                reader.fail(
                    "\(field).\(name)",
                    "events have an attribute '\(name)' of their own",
                    fix: "choose another name"
                )
            } else if value.utf8.count > 4096 {
                reader.fail("\(field).\(name)", "the value is longer than 4096 bytes", fix: "make it shorter")
            }
            extensions[name] = value
        }
        return extensions
    }

    /// The name in a plain or a full resource name.
    private static func plainName(_ text: String) -> String {
        guard let full = ResourceName(text) else { return text.split(separator: "/").last.map(String.init) ?? text }
        return full.topicName
    }
}
