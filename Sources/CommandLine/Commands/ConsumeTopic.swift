// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MartletCore

/// What records are shown as.
struct RecordDisplayOptions: ParsableArguments {
    @Option(name: [.short, .long], help: "Only this partition; repeatable.") var partition: [Int] = []
    @Option(
        name: [.customShort("f"), .long],
        help:
            "How to print a record: %s value, %k key, %t topic, %p partition, %o offset, %T time in ms, %h headers, %S and %K sizes."
    )
    var format: String?

    func printer(_ client: EngineClient, topic: String) throws -> RecordPrinter {
        if let format {
            guard client.isHuman else { throw CommandFailure.usage("--format and --output exclude each other") }
            return RecordPrinter(client, topic: topic, format: try RecordFormat(format))
        }
        return RecordPrinter(client, topic: topic, format: nil)
    }

    static let discussion = """
        Values are printed as they are, one a line; as JSON (-o json) each record is one line with its key, headers and place. \
        A format (-f) is printed as it is: end it with \\n.
        """
}

struct ConsumeTopic: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "consume",
        "Read records of a topic, from the beginning or any place on.",
        discussion: RecordDisplayOptions.discussion + """
             Goes on with new records unless -e is given. With --group reading begins where the group is, and its offsets follow what was \
            printed: commands and subscribers over gRPC that read for one group at once share the records, each is given to one of them. \
            There --from (earliest or latest) and --time say where to begin in partitions the group has no offset in, and -e ends when all \
            of them have read everything. Consumers over Kafka cannot be in the group at the same time.
            """,
        examples: [
            "martlet topics consume frames -e",
            "martlet topics consume frames --from -100 -o json",
            "martlet topics consume frames --time 2h -f '%p %o %k: %s\\n'",
            "martlet topics consume frames --group reports -e",
        ],
        aliases: ["read"]
    )
    @Argument(help: "Name, GUID or resource name.", completion: .custom(ResourceNames.complete("topics"))) var id:
        String
    @Option(
        name: .long,
        parsing: .unconditional,
        help: "earliest, latest, an offset, or -N for the last N of each partition (default: earliest).",
        completion: .list(["earliest", "latest"])
    )
    var from: String?
    @Option(name: .long, help: "From the first record of this time or later: RFC 3339, or a time ago such as 2h.")
    var time: String?
    @Option(
        name: [.short, .long],
        help: "Consumer group to read for.",
        completion: .custom(ResourceNames.complete("groups"))
    )
    var group: String?
    @Option(name: [.customShort("c"), .long], help: "Most records.") var max: Int?
    @Flag(name: [.short, .long], help: "End where the topic ends.") var exit = false
    @OptionGroup var display: RecordDisplayOptions
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func validate() throws {
        guard from == nil || time == nil else { throw ValidationError("--from and --time exclude each other.") }
        guard max ?? 1 >= 1 else { throw ValidationError("--max must be at least 1.") }
        guard let group else { return }
        guard !group.isEmpty else { throw ValidationError("--group is empty; name a consumer group.") }
        guard display.partition.isEmpty else {
            throw ValidationError("--group and --partition exclude each other: a group reads all partitions.")
        }
        guard ["earliest", "latest"].contains(from ?? "earliest") else {
            throw ValidationError(
                "With --group, --from is earliest or latest; move a group with: martlet groups reset \(group) --offset N"
            )
        }
    }

    func execute(_ client: EngineClient) async throws {
        if let group { return try await consume(for: group, client) }
        let printer = try display.printer(client, topic: id)
        let reader = RecordReader(client, topic: id, partitions: display.partition)
        var place = place
        var left = max ?? Int.max
        var isInterrupted = false
        try await InterruptFlag.with {
            while left > 0, !InterruptFlag.isRaised {
                let page = try await reader.page(from: place, limit: min(left, 5000), waits: !exit)
                try printer.print(page.records)
                left -= page.records.count
                place = [("cursor", page.next)]
                if exit, page.isAtEnd { break }
            }
            isInterrupted = InterruptFlag.isRaised
        }
        if isInterrupted { throw CancellationError() }
    }

    private func consume(for group: String, _ client: EngineClient) async throws {
        let printer = try display.printer(client, topic: id)
        let reader = GroupReader(group, client, topic: id, from: from ?? time)
        var isInterrupted = false
        try await InterruptFlag.with {
            try await reader.begin()
            try await reader.reading {
                var connection = Reconnection(client)
                var left = max ?? Int.max
                while left > 0, !InterruptFlag.isRaised {
                    let page = try await reader.page(limit: min(left, 5000), stopsAtEnd: exit, &connection)
                    try printer.print(page.records)
                    reader.done(page)
                    left -= page.records.count
                    if exit, page.isAtEnd { break }
                }
            }
            isInterrupted = InterruptFlag.isRaised
        }
        if isInterrupted { throw CancellationError() }
    }

    private var place: [(String, String?)] {
        if let from { return [("offset", from)] }
        if let time { return [("timestamp", time)] }
        return [("offset", "earliest")]
    }
}

struct TailTopic: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "tail",
        "Show the newest records of a topic, and then new ones as they come, until interrupted.",
        discussion: RecordDisplayOptions.discussion,
        examples: [
            "martlet topics tail frames", "martlet topics tail frames -n 100 -f '%T %k %s\\n'",
            "martlet topics tail frames -n 5 --no-follow -o json",
        ],
        aliases: ["follow"]
    )
    @Argument(help: "Name, GUID or resource name.", completion: .custom(ResourceNames.complete("topics"))) var id:
        String
    @Option(name: [.customShort("n"), .long], help: "Records of the time before now, 0 to 10000.") var lines = 10
    @Flag(name: .long, inversion: .prefixedNo, help: "Go on with new records.") var follow = true
    @OptionGroup var display: RecordDisplayOptions
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func validate() throws {
        guard (0...10_000).contains(lines) else {
            throw ValidationError("--lines must be between 0 and 10000, not \(lines).")
        }
    }

    func execute(_ client: EngineClient) async throws {
        let printer = try display.printer(client, topic: id)
        let reader = RecordReader(client, topic: id, partitions: display.partition)
        var place: [(String, String?)] = [("offset", lines == 0 ? "latest" : "-\(lines)")]
        var newest: [JSONValue] = []
        while true {
            let page = try await reader.page(from: place, limit: 5000, waits: false)
            newest += page.records
            if newest.count > lines + 10_000 || page.isAtEnd { newest = Self.newest(newest, lines) }
            place = [("cursor", page.next)]
            if page.isAtEnd { break }
        }
        try printer.print(newest)
        while follow {
            let page = try await reader.page(from: place, limit: 5000, waits: true)
            try printer.print(page.records)
            place = [("cursor", page.next)]
        }
    }

    /// The newest of several partitions, in order of time.
    private static func newest(_ records: [JSONValue], _ count: Int) -> [JSONValue] {
        func rank(_ record: JSONValue) -> (Int64, Int64, Int64) {
            (record["timestamp"]?.intValue ?? 0, record["partition"]?.intValue ?? 0, record["offset"]?.intValue ?? 0)
        }
        return Array(records.map { (rank($0), $0) }.sorted { $0.0 < $1.0 }.map(\.1).suffix(count))
    }
}
