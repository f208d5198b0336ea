// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore

/// Sends records in batches and counts what was written.
final class RecordSender {
    /// A batch is sent when its text has this many bytes.
    private static let bytesMax = 4 << 20

    private let client: EngineClient
    private let topic: String
    private let batch: Int
    private let sendsEvents: Bool
    private let progress: Progress
    private let clock = ContinuousClock()
    private var shownAt: ContinuousClock.Instant
    private var connection: Reconnection
    private var waiting: [[UInt8]] = []
    /// Where each of them was read.
    private var places: [String] = []
    private var waitingBytes = 0
    private var count = 0
    /// Records of batches that were sent again.
    private var mayBeTwice = 0
    /// Records of a batch of which no answer came.
    private var isUnknown = 0
    /// First and last offset written to each partition.
    private var written: [Int64: (first: Int64, last: Int64, count: Int)] = [:]

    init(_ client: EngineClient, topic: String, batch: Int, sendsEvents: Bool) {
        self.client = client
        self.topic = topic
        self.batch = batch
        self.sendsEvents = sendsEvents
        progress = Progress(client)
        connection = Reconnection(client)
        shownAt = clock.now
    }

    /// Takes one record or event as JSON text; `place` is what messages call it.
    func add(_ record: [UInt8], from place: String) async throws {
        waiting.append(record)
        places.append(place)
        waitingBytes += record.count
        if waiting.count >= batch || waitingBytes >= Self.bytesMax { try await flush() }
    }

    func flush() async throws {
        guard !waiting.isEmpty else { return }
        let sent = waiting.count
        var body = Array((sendsEvents ? "[" : #"{"records":["#).utf8)
        body.reserveCapacity(waitingBytes + waiting.count + 32)
        for (index, record) in waiting.enumerated() {
            if index > 0 { body.append(0x2C) }
            body += record
        }
        body += Array((sendsEvents ? "]" : "]}").utf8)
        let type = sendsEvents ? "application/cloudevents-batch+json" : "application/json"
        let request = APIRequest(
            "POST",
            ["topics", topic, sendsEvents ? "events" : "records"],
            body: .init(bytes: body, contentType: type)
        )
        let places = self.places
        waiting.removeAll(keepingCapacity: true)
        self.places.removeAll(keepingCapacity: true)
        waitingBytes = 0
        guard let answer = try await send(request, places) else { return }
        count += sent
        for place in EngineClient.items(answer) {
            guard let partition = place["partition"]?.intValue, let offset = place["offset"]?.intValue else { continue }
            let known = written[partition] ?? (offset, offset, 0)
            written[partition] = (min(known.first, offset), max(known.last, offset), known.count + 1)
        }
        if client.session.diagnostics.isTerminal, clock.now - shownAt > .milliseconds(500) {
            shownAt = clock.now
            try progress.show("\(count) records written")
        }
    }

    /// Sends a batch, and again where the engine went away: whether it had written the batch is then not known.
    private func send(_ request: APIRequest, _ places: [String]) async throws -> JSONValue? {
        var isRepeated = false
        do {
            let answer = try await connection.run(again: { isRepeated = true }) { try await client.send(request) }
            if isRepeated { mayBeTwice += places.count }
            return answer
        } catch let failure as CommandFailure {
            if failure.status == .unreachable { isUnknown = connection.isEstablished ? places.count : 0 }
            throw Self.located(failure, places)
        }
    }

    /// A failure that names where a record was read in place of its number in the batch.
    static func located(_ failure: CommandFailure, _ places: [String]) -> CommandFailure {
        func located(_ text: String) -> String {
            text.replacing(/(?:records)?\[(\d+)\](?:\.(\w+))?/) { match in
                guard let number = Int(match.1), places.indices.contains(number) else { return String(match.0) }
                return match.2.map { "\(places[number]), \($0)" } ?? places[number]
            }
        }
        var failure = failure
        failure.message = located(failure.message)
        failure.fields = failure.fields.map { field in
            var field = field
            field.field = located(field.field)
            field.message = located(field.message)
            return field
        }
        return failure
    }

    /// Whether no record was written, and none tried.
    var isUnused: Bool { count == 0 && isUnknown == 0 }

    func clear() throws { try progress.clear() }

    /// Says how much was written before something went wrong.
    func reportFailure() throws {
        try progress.clear()
        if count > 0 { try client.note("\(count) records were written before that") }
        if isUnknown > 0 { try client.note("whether \(isUnknown) more were written is not known") }
    }

    var summary: JSONValue {
        let partitions = written.sorted { $0.key < $1.key }.map { partition, places -> JSONValue in
            [
                "partition": .int(partition), "count": .int(Int64(places.count)), "first_offset": .int(places.first),
                "last_offset": .int(places.last),
            ]
        }
        var summary = JSONObject(members: [
            .init(key: "count", value: .int(Int64(count))), .init(key: "partitions", value: .array(partitions)),
        ])
        if mayBeTwice > 0 { summary["may_be_twice"] = .int(Int64(mayBeTwice)) }
        return .object(summary)
    }

    var text: String {
        let noun = sendsEvents ? (count == 1 ? "event" : "events") : (count == 1 ? "record" : "records")
        let places = written.sorted { $0.key < $1.key }.prefix(8).map { "\($0.key): \($0.value.count)" }
        let more = written.count > 8 ? ", …" : ""
        let detail = written.count > 1 ? " (by partition: \(places.joined(separator: ", "))\(more))" : ""
        let doubt = mayBeTwice > 0 ? "; up to \(mayBeTwice) may be there twice, sent when the engine was back" : ""
        return "Produced \(count) \(noun) to \(Sanitizer.clean(topic))\(detail)\(doubt)\n"
    }
}
