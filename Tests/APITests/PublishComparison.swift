// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Broker
import Foundation
import GRPCAPI
import GRPCCore
import KafkaCodec
import MartletProto
import SwiftProtobuf

/// Reads the same bytes with the decoder of publishing and with SwiftProtobuf, and collects how they differ.
///
/// They may differ where the decoder is stricter (groups, numbers beyond 64 bits, a single event given twice) and where it leaves to
/// later what SwiftProtobuf looks at first (text that is no UTF-8, which makes its event a refused one).
struct PublishComparison {
    /// What stands in a record: a header's value may be null.
    private struct Header: Equatable {
        var name: [UInt8]
        var value: [UInt8]?
    }

    /// A message of any of the three kinds.
    private struct Message {
        var number: UInt64 = 0
        var topic: String
        var events: [Martlet_V1_Event]
    }

    private(set) var faults: [String] = []
    private(set) var recordsAlike = 0
    private(set) var refusedRecords = 0
    private(set) var bothRefused = 0
    private(set) var onlyOneRead = 0
    private let shape: PublishDeserializer.Shape

    init(_ shape: PublishDeserializer.Shape) { self.shape = shape }

    mutating func compare(_ bytes: [UInt8]) {
        let oddities = WireOddities(bytes, shape)
        let ours = Result { try PublishDeserializer(shape: shape).deserialize(bytes) }
        let theirs = Result { try decoded(bytes) }
        switch (ours, theirs) {
        case (.failure(let error), .failure):
            bothRefused += 1
            if !(error is RPCError) { fault("not an RPCError: \(error)", bytes) }
        case (.failure(let error), .success(let message)):
            onlyOneRead += 1
            let isOneOfOne = shape != .one || (message.events.count == 1 && !oddities.repeatsSingleEvent)
            if isOneOfOne, !oddities.isRefusedByUs, !oddities.isMisreadByPeer {
                fault("refused alone: \(error)", bytes)
            }
        case (.success(let message), .failure(let error)):
            onlyOneRead += 1
            if let error = error as? BinaryDecodingError, case .invalidUTF8 = error {
                // Nothing that is no text may have become a record's name.
                check(message, bytes)
            } else if !oddities.isRefusedByPeer {
                fault("read alone: \(error)", bytes)
            }
        case (.success(let message), .success(let peer)):
            if !oddities.isMisreadByPeer { compare(message, with: peer, oddities, bytes) }
        }
    }

    private mutating func fault(_ text: String, _ bytes: [UInt8]) {
        faults.append("\(text): \(bytes.map { String(format: "%02x", $0) }.joined())")
    }

    private func decoded(_ bytes: [UInt8]) throws -> Message {
        switch shape {
        case .one:
            let request = try Martlet_V1_PublishRequest(serializedBytes: bytes)
            return Message(topic: request.topic, events: request.hasEvent ? [request.event] : [])
        case .batch:
            let request = try Martlet_V1_PublishBatchRequest(serializedBytes: bytes)
            return Message(topic: request.topic, events: request.events)
        case .stream:
            let request = try Martlet_V1_PublishStreamRequest(serializedBytes: bytes)
            return Message(number: request.number, topic: request.topic, events: request.events)
        }
    }

    private mutating func compare(
        _ ours: PublishMessage,
        with theirs: Message,
        _ oddities: WireOddities,
        _ bytes: [UInt8]
    ) {
        if ours.number != theirs.number { fault("number \(ours.number), not \(theirs.number)", bytes) }
        if ours.records.topics.first != theirs.topic { fault("topic \(ours.records.topics)", bytes) }
        guard ours.records.items.count == theirs.events.count else {
            return fault("\(ours.records.items.count) events, not \(theirs.events.count)", bytes)
        }
        for (item, event) in zip(ours.records.items, theirs.events) {
            guard item.fault == nil else {
                refusedRecords += 1
                continue
            }
            let topic = event.topic.isEmpty ? theirs.topic : event.topic
            if ours.records.topics[item.topic] != topic { fault("an event's topic is not \(topic)", bytes) }
            let partition = event.hasPartition ? event.partition : nil
            if item.partition != partition { fault("partition \(String(describing: item.partition))", bytes) }
            guard let record = record(item, ours.records.bodies) else {
                fault("a body cannot be read", bytes)
                continue
            }
            // Which of two it is that counts, SwiftProtobuf cannot say.
            let key = event.hasKey ? Array(event.key) : event.extensions["partitionkey"].map { Array($0.utf8) }
            if oddities.repeatsExtension { continue }
            if record.key.map({ Array($0) }) != key { fault("the key is not \(String(describing: key))", bytes) }
            if item.keyHash != key.map({ Partitioner.murmur2($0) }) { fault("the key's hash", bytes) }
            if record.value.map({ Array($0) }) != (event.hasData ? Array(event.data) : nil) {
                fault("the value", bytes)
            }
            if let difference = difference(of: record, from: event) { fault(difference, bytes) }
            recordsAlike += 1
        }
    }

    /// The record that readers will see.
    private func record(_ item: EncodedRecords.Item, _ bodies: [UInt8]) -> RecordView? {
        var builder = RecordBatchBuilder(capacity: item.body.count + 100)
        builder.append(body: bodies[item.body])
        let records = try? RecordBatches.records(in: builder.finish(timestamp: 1))
        return records?.count == 1 ? records?.first : nil
    }

    private func difference(of record: RecordView, from event: Martlet_V1_Event) -> String? {
        let headers = record.headers.map { Header(name: Array($0.name), value: $0.value.map { Array($0) }) }
        let own = event.headers.map {
            Header(name: Array($0.name.utf8), value: $0.hasValue ? Array($0.value) : nil)
        }
        var attributes: [String: String] = [:]
        for (name, value) in [
            ("ce_id", event.id), ("ce_source", event.source), ("ce_type", event.type), ("ce_subject", event.subject),
            ("ce_time", event.time), ("ce_dataschema", event.dataSchema), ("content-type", event.dataContentType),
        ] where !value.isEmpty { attributes[name] = value }
        for (name, value) in event.extensions { attributes["ce_\(name)"] = value }
        if !attributes.isEmpty { attributes["ce_specversion"] = "1.0" }
        guard headers.count == attributes.count + own.count else {
            return "\(headers.count) headers, not \(attributes.count) and \(own.count)"
        }
        if Array(headers.suffix(own.count)) != own { return "the headers are not \(own)" }
        for header in headers.prefix(attributes.count) {
            guard let value = attributes.removeValue(forKey: String(decoding: header.name, as: UTF8.self)),
                header.value == Array(value.utf8)
            else { return "attribute \(String(decoding: header.name, as: UTF8.self))" }
        }
        return nil
    }

    /// Looks only at what must hold of every record: its names and attributes are text.
    private mutating func check(_ message: PublishMessage, _ bytes: [UInt8]) {
        for item in message.records.items where item.fault == nil {
            guard let record = record(item, message.records.bodies) else {
                fault("a body cannot be read", bytes)
                continue
            }
            for header in record.headers {
                let isText = String(validating: header.name, as: UTF8.self) != nil
                let isAttribute = header.name.starts(with: "ce_".utf8) || header.name.elementsEqual("content-type".utf8)
                let isWhole = header.value.map { String(validating: $0, as: UTF8.self) != nil } ?? true
                // A plain record may have headers of these names with any value.
                let isEvent = record.header("ce_specversion").map { $0.elementsEqual("1.0".utf8) } ?? false
                if !isText || (isEvent && isAttribute && !isWhole) { fault("a header is no text", bytes) }
            }
        }
    }
}
