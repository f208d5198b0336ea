// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MartletCore

struct ListTopicSettings: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "configs",
        "Show every setting of a topic, under Kafka's names.",
        discussion: "Settings are changed with: martlet topics update NAME --config SETTING=VALUE",
        examples: ["martlet topics configs frames", "martlet topics configs frames --set -o json"],
        aliases: ["settings"]
    )
    @Argument(help: "Name, GUID or resource name.", completion: .custom(ResourceNames.complete("topics"))) var id:
        String
    @Flag(name: .long, help: "Only those that the topic sets.") var set = false
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        let all = EngineClient.items(try await client.get(["topics", id, "settings"]))
        let shown = all.filter { !set || $0["is_set"]?.boolValue == true }
        try client.printList(shown, next: nil, noun: "setting") {
            TextTable(
                columns: [.init("Setting"), .init("Value"), .init("Source"), .init("Meaning", isFlexible: true)],
                rows: shown.map { setting in
                    let value = setting["value"]?.stringValue ?? ""
                    return [
                        setting["name"]?.stringValue ?? "-", value.isEmpty ? "-" : value,
                        setting["is_set"]?.boolValue == true ? "topic" : "default",
                        setting["description"]?.stringValue ?? "-",
                    ]
                }
            )
        }
    }
}

struct DeleteTopicRecords: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "delete-records",
        "Delete the records of a partition in front of an offset.",
        discussion:
            "They cannot be read any more when the command ends; files go when nothing in them is left. Asks first; without a terminal --force is needed.",
        examples: ["martlet topics delete-records frames --partition 0 --before 1000"]
    )
    @Argument(help: "Name, GUID or resource name.", completion: .custom(ResourceNames.complete("topics"))) var id:
        String
    @Option(name: [.short, .long], parsing: .unconditional, help: "The partition.") var partition: Int
    @Option(name: .long, parsing: .unconditional, help: "The first offset to keep.") var before: Int
    @OptionGroup var confirmation: Confirmation
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func validate() throws {
        guard partition >= 0 else { throw ValidationError("--partition must not be negative.") }
        guard before >= 0 else { throw ValidationError("--before must not be negative.") }
    }

    func execute(_ client: EngineClient) async throws {
        try await confirmation.require(client, refusal: "nothing was deleted") {
            "Delete the records of partition \(partition) of topic \(id) in front of offset \(before)?"
        }
        let request = APIRequest(
            "DELETE",
            ["topics", id, "records"],
            query: [("partition", "\(partition)"), ("before", "\(before)")]
        )
        guard let answer = try await client.send(request) else { return }
        try client.confirm(answer) {
            "Partition \(partition) of \(Sanitizer.clean(id)) begins at offset \(answer["start_offset"]?.intValue ?? 0)\n"
        }
    }
}
