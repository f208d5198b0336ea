// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MartletCore

struct GroupsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration.group(
        "groups",
        "Consumer groups: who reads topics, and how far behind they are.",
        [ListGroups.self, GetGroup.self, ResetGroup.self, DeleteGroups.self],
        aliases: ["group"]
    )
    init() {}
}

/// How groups are shown.
private enum GroupDisplay {
    static let resource = ResourceDisplay(
        kind: "groups",
        noun: "consumer group",
        columns: [
            .key("Group", "name"), .key("State", "state"), .key("Members", "member_count", isRight: true),
            .key("Lag", "lag_records", isRight: true), .init("Behind", isRight: true) { age($0["lag_seconds"]) },
            .key("Topics", "topics", isFlexible: true),
        ],
        details: [
            .key("State", "state"), .key("Members", "member_count"), .key("Protocol", "protocol_name"),
            .key("Generation", "generation"),
            .init("Lag") { item in
                guard let records = item["lag_records"]?.intValue else { return nil }
                let noun = records == 1 ? "record" : "records"
                return age(item["lag_seconds"]).map { "\(records) \(noun), the oldest \($0) old" }
                    ?? "\(records) \(noun)"
            },
            .init("Use") { $0["is_internal"]?.boolValue == true ? "the engine's own" : nil },
        ]
    )

    /// Seconds as people read them; nil for none.
    static func age(_ value: JSONValue?) -> String? {
        guard let seconds = value?.doubleValue, seconds > 0, seconds < 1e11 else { return nil }
        return Quantity.duration(microseconds: Int64(seconds * 1_000_000))
    }

    static func members(_ group: JSONValue) -> TextTable {
        TextTable(
            columns: [
                .init("Member", isFlexible: true), .init("Instance"), .init("Client"), .init("Host"),
                .init("Partitions", isRight: true),
            ],
            rows: (group["members"]?.arrayValue ?? []).map { member in
                ["member_id", "instance_id", "client_id", "client_host", "partition_count"].map {
                    ResourceDisplay.text(member[$0]) ?? "-"
                }
            }
        )
    }

    static func partitions(_ group: JSONValue) -> TextTable {
        TextTable(
            columns: [
                .init("Topic"), .init("Partition", isRight: true), .init("Committed", isRight: true),
                .init("End", isRight: true), .init("Lag", isRight: true), .init("Behind", isRight: true),
                .init("Committed at"), .init("Member", isFlexible: true),
            ],
            rows: (group["partitions"]?.arrayValue ?? []).map { partition in
                ["topic", "partition", "committed_offset", "end_offset", "lag_records"].map {
                    ResourceDisplay.text(partition[$0]) ?? "-"
                } + [
                    age(partition["lag_seconds"]) ?? "-", Quantity.time(partition["committed_at"]?.stringValue) ?? "-",
                    ResourceDisplay.text(partition["member_id"]) ?? "-",
                ]
            }
        )
    }
}

struct ListGroups: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "list",
        "List consumer groups with their lag.",
        discussion: "Groups whose name begins with two underscores are the engine's own: tables and pipelines.",
        examples: ["martlet groups list", "martlet groups list --name report -o json"],
        aliases: ["ls"]
    )
    @Option(name: [.short, .long], help: "Only names that contain this text.") var name: String?
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        let items = EngineClient.items(try await client.get(["groups"], query: [("name", name)]))
        try client.printList(items, next: nil, noun: "consumer group") { GroupDisplay.resource.table(items) }
    }
}

struct GetGroup: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "get",
        "Show a consumer group: its members, and offset and lag of each partition.",
        examples: ["martlet groups get reports", "martlet groups get reports -o yaml"],
        aliases: ["show", "describe"]
    )
    @Argument(help: "Name of the group.", completion: .custom(ResourceNames.complete("groups"))) var name: String
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        let group = try await client.get(["groups", name])
        try client.print(group) {
            var text = GroupDisplay.resource.fieldList(group).text(style: client.style)
            for table in [GroupDisplay.members(group), GroupDisplay.partitions(group)] where !table.rows.isEmpty {
                text += "\n" + table.text(width: client.width, style: client.style)
            }
            return text
        }
    }
}

struct ResetGroup: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "reset",
        "Move a group's offsets, to read records again or to skip some.",
        discussion: """
            The group must have no members: stop its consumers first. Offsets are kept within what a partition holds. \
            Without --topic all topics change that the group has offsets in; with it, others are begun too.
            """,
        examples: [
            "martlet groups reset reports --to earliest --plan", "martlet groups reset reports --to latest",
            "martlet groups reset reports --time 2h --topic frames",
            "martlet groups reset reports --by -100 --topic frames --partition 0",
        ]
    )
    @Argument(help: "Name of the group.", completion: .custom(ResourceNames.complete("groups"))) var name: String
    @Option(name: .long, help: "'earliest' or 'latest'.") var to: String?
    @Option(name: .long, help: "To the first record of this time or later: RFC 3339, or before now such as 2h.")
    var time: String?
    @Option(name: .long, help: "To this offset.") var offset: Int?
    @Option(name: .long, parsing: .unconditional, help: "So many records on; back where negative.") var by: Int?
    @Option(
        name: .long,
        help: "Only this topic; repeatable.",
        completion: .custom(ResourceNames.complete("topics"))
    )
    var topic: [String] = []
    @Option(name: .long, help: "Only this partition; repeatable.") var partition: [Int] = []
    @Flag(name: .long, help: "Only show where the offsets would go.") var plan = false
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func validate() throws {
        guard [to != nil, time != nil, offset != nil, by != nil].filter(\.self).count == 1 else {
            throw ValidationError("Give exactly one of --to, --time, --offset and --by.")
        }
    }

    func execute(_ client: EngineClient) async throws {
        var fields = FieldBuilder()
        fields.set("to", to)
        fields.set("time", time)
        fields.set("offset", offset)
        fields.set("by", by)
        fields.set("topics", list: topic)
        var body = fields.object
        if !partition.isEmpty { body["partitions"] = .array(partition.map { .int(Int64($0)) }) }
        let request = APIRequest(
            "POST",
            ["groups", name, "reset"],
            query: plan ? [("dry_run", "true")] : [],
            body: .json(.object(body))
        )
        guard let answer = try await client.send(request) else { return }
        let outcomes = EngineClient.items(answer)
        for outcome in outcomes { try noteLimit(outcome, client) }
        try client.confirm(answer) {
            let table = TextTable(
                columns: [
                    .init("Topic"), .init("Partition", isRight: true), .init("Old offset", isRight: true),
                    .init("New offset", isRight: true),
                ],
                rows: outcomes.map { outcome in
                    ["topic", "partition", "old_offset", "new_offset"].map { ResourceDisplay.text(outcome[$0]) ?? "-" }
                }
            )
            let verb = plan ? "Would move" : "Moved"
            let count = "\(outcomes.count) \(outcomes.count == 1 ? "offset" : "offsets")"
            return "\(verb) \(count) of \(Sanitizer.clean(name))\n"
                + (outcomes.isEmpty ? "" : table.text(width: client.width, style: client.style))
        }
    }
}

extension ResetGroup {
    /// Says where a place that was asked for does not exist.
    private func noteLimit(_ outcome: JSONValue, _ client: EngineClient) throws {
        guard let new = outcome["new_offset"]?.intValue else { return }
        let wanted: Int64
        if let offset {
            wanted = Int64(offset)
        } else if let by, let old = outcome["old_offset"]?.intValue {
            let (sum, isTooLarge) = old.addingReportingOverflow(Int64(by))
            wanted = isTooLarge ? (by < 0 ? .min : .max) : sum
        } else {
            return
        }
        guard wanted != new else { return }
        let place = "partition \(outcome["partition"]?.intValue ?? 0) of \(outcome["topic"]?.stringValue ?? "")"
        try client.note(
            "\(wanted) lies \(wanted < new ? "before the first" : "behind the last") offset of \(place), which is \(new)"
        )
    }
}

struct DeleteGroups: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "delete",
        "Delete consumer groups and their offsets.",
        discussion: "Refused while a group has members. Asks first; without a terminal --force is needed.",
        examples: ["martlet groups delete reports", "martlet groups delete --force reports other"],
        aliases: ["rm"]
    )
    @Argument(help: "Names of groups.", completion: .custom(ResourceNames.complete("groups"))) var names: [String]
    @OptionGroup var confirmation: Confirmation
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        try await client.delete(GroupDisplay.resource, names, confirmation)
    }
}
