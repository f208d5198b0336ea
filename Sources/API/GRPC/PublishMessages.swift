// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Broker
package import GRPCCore
import MartletCore

/// A request to publish, with its events in the form in which they are stored.
package struct PublishMessage: Sendable {
    /// The number by which a stream acknowledges it.
    package var number: UInt64 = 0
    /// What is to be published; the first topic is the request's own.
    package var records: EncodedRecords
    /// Bytes of the message.
    var bytes: Int

    /// What it counts for among what is unacknowledged: its bytes, and what describes each event and its outcome.
    var weight: Int { bytes + 256 * records.items.count }
}

/// Reads requests to publish.
package struct PublishDeserializer: MessageDeserializer {
    /// Which of the three messages is read; they differ in the numbers of their fields.
    package enum Shape: Sendable {
        case one
        case batch
        case stream
    }

    /// Most bytes of a message.
    static let bytesMax = 32 << 20
    /// Most events of a message.
    static let eventsMax = 10_000
    /// Longest name of a topic, which each outcome repeats.
    static let topicBytesMax = 249

    let shape: Shape

    package init(shape: Shape) {
        self.shape = shape
    }

    /// Reads a request; events that are refused are among its records, with the reason.
    ///
    /// - Throws: `RPCError` where it is no such message, or too large.
    package func deserialize<Bytes: GRPCContiguousBytes>(_ bytes: Bytes) throws -> PublishMessage {
        try bytes.withUnsafeBytes { buffer in
            guard buffer.count <= Self.bytesMax else {
                throw RPCError(
                    code: .resourceExhausted,
                    message:
                        "the message has \(buffer.count) bytes; up to \(Self.bytesMax) are taken: send smaller batches"
                )
            }
            do {
                return try decode(buffer)
            } catch let fault as ProtobufFault {
                throw RPCError(
                    code: .invalidArgument,
                    message:
                        "the message cannot be read: \(fault.message); send what proto/martlet/v1/events.proto says"
                )
            }
        }
    }

    private func decode(_ buffer: UnsafeRawBufferPointer) throws -> PublishMessage {
        let topicField: UInt64 = shape == .stream ? 2 : 1
        let eventField: UInt64 = shape == .stream ? 3 : 2
        var number: UInt64 = 0
        var topic = ""
        var count = 0
        // The topic may stand behind the events.
        var scan = ProtobufReader(buffer)
        while let (field, value) = try scan.next() {
            switch (field, value) {
            case (1, .number(let found)) where shape == .stream: number = found
            case (topicField, .bytes(let bytes)):
                guard bytes.count <= Self.topicBytesMax else { throw Self.longTopic(bytes.count) }
                topic = String(decoding: bytes, as: UTF8.self)
            case (eventField, .bytes): count += 1
            default: break
            }
        }
        guard count <= Self.eventsMax else {
            throw RPCError(
                code: .resourceExhausted,
                message: "the message has \(count) events; up to \(Self.eventsMax) are taken: send several batches"
            )
        }
        guard shape != .one || count == 1 else {
            throw RPCError(
                code: .invalidArgument,
                message: "the request has \(count) events; Publish takes one, and PublishBatch several"
            )
        }
        var decoder = EventDecoder(topic: topic, bytes: buffer.count)
        var events = ProtobufReader(buffer)
        while let (field, value) = try events.next() {
            guard field == eventField, case .bytes(let bytes) = value else { continue }
            let place = decoder.count
            try decoder.add(bytes, place: shape == .one ? "event." : "events[\(place)].")
        }
        return PublishMessage(number: number, records: decoder.records(), bytes: buffer.count)
    }

    private static func longTopic(_ bytes: Int) -> RPCError {
        RPCError(
            code: .invalidArgument,
            message:
                "topic: has \(bytes) bytes; a topic's name has up to \(topicBytesMax): see ListTopics of martlet.v1.Topics"
        )
    }
}

/// Sends bytes that are a message already.
struct EncodedSerializer: MessageSerializer {
    func serialize<Bytes: GRPCContiguousBytes>(_ message: [UInt8]) throws -> Bytes { Bytes(message) }
}

/// Writes answers to requests to publish.
enum PublishAnswer {
    /// `PublishResponse`.
    ///
    /// - Throws: `RPCError` where the event was refused.
    static func one(_ outcomes: [PublishOutcome], _ topics: [String], _ topic: Int) throws -> [UInt8] {
        guard let outcome = outcomes.first else {
            throw RPCError(code: .internalError, message: "nothing was published")
        }
        if let error = outcome.error { throw RPCError(error) }
        var bytes: [UInt8] = []
        put(outcome, topics[topic], to: &bytes)
        return bytes
    }

    /// `PublishBatchResponse`, or the same fields of an `Acknowledgement` when they begin at 2.
    static func results(
        _ outcomes: [PublishOutcome],
        of records: EncodedRecords,
        field: UInt64 = 1,
        into bytes: inout [UInt8]
    ) {
        var one: [UInt8] = []
        for (index, outcome) in outcomes.enumerated() {
            one.removeAll(keepingCapacity: true)
            let topic = records.topics[records.items[index].topic]
            if let error = outcome.error {
                one.putField(1, text: topic)
                var inner: [UInt8] = []
                inner.putField(1, UInt64(RPCError.Code(error.code).rawValue))
                inner.putField(2, text: error.oneLine)
                one.putField(4, inner)
            } else {
                put(outcome, topic, to: &one)
            }
            bytes.putField(field, one)
        }
    }

    private static func put(_ outcome: PublishOutcome, _ topic: String, to bytes: inout [UInt8]) {
        bytes.putField(1, text: topic)
        bytes.putField(2, UInt64(outcome.partition))
        bytes.putField(3, UInt64(outcome.offset))
    }
}
