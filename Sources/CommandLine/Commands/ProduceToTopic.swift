// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import MartletCore

struct ProduceToTopic: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "produce",
        "Write records to a topic: lines, files, JSON or CloudEvents.",
        discussion: """
            Each line of standard input, or of the files named, is one record's value. Records are sent in batches and are on disk when the \
            command ends; a line is sent at once where no more is waiting. A line is taken as it is, without its line feed. Where the engine \
            goes away meanwhile it is asked again for a minute: the batch that was on its way may then be there twice, which is said. Ctrl-C ends after the batch that is on its way, and what was \
            written is counted. To send one CloudEvent from options, use: martlet topics publish
            """,
        examples: [
            "seq 1000 | martlet topics produce frames",
            "printf 'a:1\\nb:2\\n' | martlet topics produce frames -K :",
            "martlet topics produce frames --whole --key cover cover.jpg",
            "martlet topics consume old -e -o json | martlet topics produce new --json",
            "martlet topics produce frames --cloudevents < events.ndjson",
            "echo a: | martlet topics produce users -K : --empty-is-null    # deletes key a of a compacted topic",
        ]
    )
    @Argument(help: "Name, GUID or resource name.", completion: .custom(ResourceNames.complete("topics"))) var id:
        String
    @Argument(help: "Files to read instead of standard input (- for that).", completion: .file()) var files: [String] =
        []
    @Option(name: [.customShort("K"), .long], help: "What stands between key and value in a line.") var keySeparator:
        String?
    @Option(name: [.short, .long], help: "Key of every record.") var key: String?
    @Option(name: [.customShort("H"), .long], help: "Header as name=value; repeatable.") var header: [String] = []
    @Option(name: [.short, .long], help: "Partition; without it the key chooses.") var partition: Int?
    @Flag(name: .long, help: "Lines are records in JSON, as 'consume -o json' prints them.") var json = false
    @Flag(name: .long, help: "Lines are CloudEvents in JSON; what they lack is filled in.") var cloudevents = false
    @Flag(name: .long, help: "Each file, or all of standard input, is one record's value.") var whole = false
    @Flag(name: [.customShort("Z"), .long], help: "An empty value is null: a tombstone in a compacted topic.")
    var emptyIsNull = false
    @Option(name: .long, help: "Most records sent at once, 1 to 10000.") var batch = 1000
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func validate() throws {
        guard [json, cloudevents, whole].filter(\.self).count <= 1 else {
            throw ValidationError("--json, --cloudevents and --whole exclude each other.")
        }
        if json || cloudevents {
            guard keySeparator == nil, key == nil, header.isEmpty, partition == nil, !emptyIsNull else {
                throw ValidationError(
                    "With --json and --cloudevents, records say their keys, headers and partition themselves."
                )
            }
        }
        guard !(whole && keySeparator != nil) else {
            throw ValidationError("With --whole there is no key in front of the value; use --key.")
        }
        guard keySeparator?.isEmpty != true else { throw ValidationError("--key-separator is empty.") }
        guard (1...10_000).contains(batch) else {
            throw ValidationError("--batch must be between 1 and 10000, not \(batch).")
        }
        guard partition ?? 0 >= 0 else { throw ValidationError("--partition must not be negative.") }
        for text in header where !text.contains("=") { throw ValidationError("--header '\(text)' is not name=value.") }
    }

    func execute(_ client: EngineClient) async throws {
        let sender = RecordSender(client, topic: id, batch: batch, sendsEvents: cloudevents)
        var wasInterrupted = false
        try await InterruptFlag.with {
            do {
                for file in files.isEmpty ? ["-"] : files {
                    try await send(file, client, sender)
                    if InterruptFlag.isRaised { break }
                }
                try await sender.flush()
                // Where nothing was sent nobody has found out whether there is such a topic.
                if sender.isUnused { _ = try await client.send(APIRequest("GET", ["topics", id])) }
            } catch {
                try sender.reportFailure()
                throw error
            }
            wasInterrupted = InterruptFlag.isRaised
        }
        try sender.clear()
        if !client.options.dryRun { try client.confirm(sender.summary) { sender.text } }
        if wasInterrupted { throw CancellationError() }
    }

    private func send(_ file: String, _ client: EngineClient, _ sender: RecordSender) async throws {
        if whole {
            let input = try InputFile(file, session: client.session)
            return try await sender.add(record(value: input.bytes, key: keyBytes), from: input.name)
        }
        let source = try LineSource(file, session: client.session)
        while let line = try source.next() {
            switch line {
            case .nothingYet: try await sender.flush()
            case .line(let bytes, let number):
                let place = "\(source.name), line \(number)"
                try await sender.add(try record(line: bytes, place), from: place)
            }
            if InterruptFlag.isRaised { return }
        }
    }

    private var keyBytes: [UInt8]? { key.map { Array($0.utf8) } }

    private func record(line: [UInt8], _ place: String) throws -> [UInt8] {
        if cloudevents {
            guard let written = try? WrittenEvent(json: line) else {  // Refused right here.
                throw CommandFailure(.refused, "\(place) is not JSON")
            }
            return try EventDocument(completing: written, name: place, type: nil).bytes
        }
        if json {
            guard let value = try? JSONValue(parsing: line) else {  // As above.
                throw CommandFailure(.refused, "\(place) is not JSON")
            }
            guard case .object(var object) = value else {
                throw CommandFailure(
                    .refused,
                    "\(place) is not a record",
                    fix: "write {\"key\":…,\"value\":…} on each line"
                )
            }
            // Where it was read from says nothing about where it goes.
            for name in object["offset"] == nil ? ["topic"] : ["topic", "offset", "partition"] { object[name] = nil }
            return JSONValue.object(object).bytes
        }
        guard let separator = keySeparator.map({ Array($0.utf8) }) else { return record(value: line, key: keyBytes) }
        guard let range = line.firstRange(of: separator) else {
            throw CommandFailure(
                .refused,
                "\(place) has no '\(keySeparator ?? "")' between key and value",
                fix: "correct the line, or leave out --key-separator"
            )
        }
        return record(value: Array(line[range.upperBound...]), key: Array(line[..<range.lowerBound]))
    }

    private func record(value: [UInt8], key: [UInt8]?) -> [UInt8] {
        var members: [JSONObject.Member] = []
        if let partition { members.append(.init(key: "partition", value: .int(Int64(partition)))) }
        if let key { members.append(RecordText.member("key", key)) }
        if !(emptyIsNull && value.isEmpty) { members.append(RecordText.member("value", value)) }
        if !header.isEmpty {
            members.append(
                .init(
                    key: "headers",
                    value: .array(
                        header.map { text in
                            let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
                            return ["name": .string(String(parts[0])), "value": .string(String(parts[1]))]
                        }
                    )
                )
            )
        }
        return JSONValue.object(JSONObject(members: members)).bytes
    }
}

/// Bytes of records in JSON.
enum RecordText {
    /// A member with text, or with base64 under another name where the bytes are not UTF-8.
    static func member(_ name: String, _ bytes: [UInt8]) -> JSONObject.Member {
        if let text = String(validating: bytes, as: UTF8.self) { return .init(key: name, value: .string(text)) }
        return .init(key: name + "_base64", value: .string(Data(bytes).base64EncodedString()))
    }

    /// The bytes of such a member; nil for null.
    static func bytes(_ name: String, of record: JSONValue) -> [UInt8]? {
        if let text = record[name]?.stringValue { return Array(text.utf8) }
        return record[name + "_base64"]?.stringValue.flatMap { Data(base64Encoded: $0) }.map { Array($0) }
    }
}
