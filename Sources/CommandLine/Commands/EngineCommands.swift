// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MartletCore

struct EngineCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration.group(
        "engine",
        "The engine itself.",
        [EngineStatus.self]
    )
    init() {}
}

struct EngineStatus: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "status",
        "Show version, data directory and damage of the engine.",
        discussion: "Exits with 5 when the engine cannot be reached or is not ready, with 1 when it reports damage.",
        examples: ["martlet engine status", "martlet engine status --server http://10.0.0.5:8070 -o json"]
    )
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        let answer = try await client.get(["engine"])
        let damage = answer["damage"]?.arrayValue ?? []
        try client.print(answer) {
            var list = FieldList()
            list.add("Address", client.settings.server)
            list.add("gRPC Address", answer["grpc_address"]?.stringValue)
            list.add("Kafka Address", answer["kafka_address"]?.stringValue)
            list.add("Version", answer["version"]?.stringValue)
            list.add("DuckDB", answer["duckdb_version"]?.stringValue)
            list.add("Started At", Quantity.time(answer["started_at"]?.stringValue))
            if let start = (answer["started_at"]?.stringValue).flatMap({ Timestamp.parseMicroseconds($0) }) {
                list.add("Up", Quantity.duration(microseconds: max(0, Timestamp.nowMicroseconds() - start)))
            }
            list.add("Data Directory", answer["data_directory"]?.stringValue)
            list.add("Functions", answer["functions_obstacle"]?.stringValue)
            list.add(
                "Damage",
                damage.isEmpty ? "none" : damage.compactMap { ResourceDisplay.text($0) }.joined(separator: "\n")
            )
            return list.text(style: client.style)
        }
        guard damage.isEmpty else {
            throw CommandFailure(
                .failure,
                "the engine has \(damage.count == 1 ? "a problem" : "\(damage.count) problems") with its data or its disk",
                fix: "see what is listed above, and the table of damage in docs/operations.md; nothing was deleted"
            )
        }
    }
}
