// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Broker
import EventLog
import KafkaCodec
import MartletCore

/// Turns `martlet.v1.Event` as it stands in a message into the body of a record, copying each byte once.
///
/// Attributes become `ce_` headers, as CloudEvents' Kafka binding 1.0 says; they are checked as those of events over HTTP are.
struct EventDecoder {
    private typealias Bytes = UnsafeRawBufferPointer

    private struct Fields {
        var id: Bytes?
        var source: Bytes?
        var type: Bytes?
        var subject: Bytes?
        var time: Bytes?
        var contentType: Bytes?
        var schema: Bytes?
        var key: Bytes?
        var data: Bytes?
        var topic: Bytes?
        var partition: Int32?

        var hasAttributes: Bool {
            [id, source, type, subject, time, contentType, schema].contains { $0.map { !$0.isEmpty } ?? false }
        }
    }

    private static let namesMax = 100

    private var extensions: [(name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer)] = []
    private var headers: [(name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer?)] = []
    private var bodies: RecordBodyWriter
    private var topics: [String]
    private var items: [EncodedRecords.Item] = []

    /// Decodes events of a message with so many bytes, whose topic is this one where they name none.
    init(topic: String, bytes: Int) {
        topics = [topic]
        bodies = RecordBodyWriter(capacity: bytes + 256)
    }

    /// How many events there are.
    var count: Int { items.count }

    /// What was decoded.
    consuming func records() -> EncodedRecords {
        EncodedRecords(bodies: bodies.bytes, topics: topics, items: items)
    }

    /// Decodes one event; one that is refused is among the records with the reason.
    ///
    /// - Parameters:
    ///   - message: The event as protobuf.
    ///   - place: How the event is called in messages, such as `events[3].`.
    /// - Throws: `ProtobufFault` where it is no message.
    mutating func add(_ message: UnsafeRawBufferPointer, place: @autoclosure () -> String) throws(ProtobufFault) {
        extensions.removeAll(keepingCapacity: true)
        headers.removeAll(keepingCapacity: true)
        let fields = try read(message)
        do throws(AttributeFault) {
            try encode(fields)
        } catch {
            let fault = ServiceError.invalid(field: place() + error.name, error.message, fix: error.fix)
            items.append(EncodedRecords.Item(body: 0..<0, topic: 0, fault: fault))
        }
    }

    private mutating func read(_ message: Bytes) throws(ProtobufFault) -> Fields {
        var fields = Fields()
        var reader = ProtobufReader(message)
        while let (field, value) = try reader.next() {
            switch (field, value) {
            case (1, .bytes(let bytes)): fields.id = bytes
            case (2, .bytes(let bytes)): fields.source = bytes
            case (3, .bytes(let bytes)): fields.type = bytes
            case (4, .bytes(let bytes)): fields.subject = bytes
            case (5, .bytes(let bytes)): fields.time = bytes
            case (6, .bytes(let bytes)): fields.contentType = bytes
            case (7, .bytes(let bytes)): fields.schema = bytes
            case (8, .bytes(let bytes)) where extensions.count <= Self.namesMax:
                let pair = try Self.pair(bytes)
                extensions.append((pair.name, pair.value ?? Bytes(start: nil, count: 0)))
            case (9, .bytes(let bytes)) where headers.count <= Self.namesMax: headers.append(try Self.pair(bytes))
            case (10, .bytes(let bytes)): fields.key = bytes
            case (11, .bytes(let bytes)): fields.data = bytes
            case (12, .bytes(let bytes)): fields.topic = bytes
            case (13, .number(let number)): fields.partition = Int32(truncatingIfNeeded: number)
            default: break
            }
        }
        return fields
    }

    /// A message of a name (1) and a value (2), which is also how entries of maps are written.
    private static func pair(_ bytes: Bytes) throws(ProtobufFault) -> (name: Bytes, value: Bytes?) {
        var reader = ProtobufReader(bytes)
        var name = Bytes(start: nil, count: 0)
        var value: Bytes?
        while let (field, found) = try reader.next() {
            switch (field, found) {
            case (1, .bytes(let bytes)): name = bytes
            case (2, .bytes(let bytes)): value = bytes
            default: break
            }
        }
        return (name, value)
    }

    private mutating func encode(_ fields: Fields) throws(AttributeFault) {
        let isEvent = fields.hasAttributes || !extensions.isEmpty
        if isEvent { try check(fields) }
        try checkHeaders(besideAttributes: isEvent)
        var topic = 0
        if let name = fields.topic, !name.isEmpty { topic = try place(of: name) }
        if let partition = fields.partition, partition < 0 {
            throw AttributeFault("partition", "\(partition) is no partition", fix: "use a number from 0")
        }
        let start = bodies.bytes.count
        let key = fields.key ?? extensions.first { $0.name.elementsEqual("partitionkey".utf8) }?.value
        bodies.putField(key)
        bodies.putField(fields.data)
        let optional = [fields.subject, fields.time, fields.schema, fields.contentType].count { !($0?.isEmpty ?? true) }
        bodies.putHeaderCount((isEvent ? 4 + optional + extensions.count : 0) + headers.count)
        if isEvent { putAttributes(fields) }
        for header in headers { bodies.putHeader(prefix: "", header.name, header.value) }
        items.append(
            EncodedRecords.Item(
                body: start..<bodies.bytes.count,
                topic: topic,
                keyHash: key.map { Partitioner.murmur2(Array($0)) },
                partition: fields.partition
            )
        )
    }

    private mutating func putAttributes(_ fields: Fields) {
        "1.0".utf8.withContiguousStorageIfAvailable { version in
            bodies.putHeader("ce_specversion", UnsafeRawBufferPointer(version))
        }
        bodies.putHeader("ce_id", fields.id)
        bodies.putHeader("ce_source", fields.source)
        bodies.putHeader("ce_type", fields.type)
        if let value = fields.subject, !value.isEmpty { bodies.putHeader("ce_subject", value) }
        if let value = fields.time, !value.isEmpty { bodies.putHeader("ce_time", value) }
        if let value = fields.schema, !value.isEmpty { bodies.putHeader("ce_dataschema", value) }
        for one in extensions { bodies.putHeader(prefix: "ce_", one.name, one.value) }
        if let value = fields.contentType, !value.isEmpty { bodies.putHeader("content-type", value) }
    }

    private mutating func place(of name: Bytes) throws(AttributeFault) -> Int {
        if let known = topics.firstIndex(where: { $0.utf8.elementsEqual(name) }) { return known }
        guard name.count <= PublishDeserializer.topicBytesMax else {
            throw AttributeFault(
                "topic",
                "has \(name.count) bytes",
                fix: "a topic's name has up to \(PublishDeserializer.topicBytesMax)"
            )
        }
        guard let text = String(validating: name, as: UTF8.self), topics.count < Self.namesMax else {
            throw AttributeFault("topic", "is not UTF-8, or one of too many", fix: "name up to \(Self.namesMax) topics")
        }
        topics.append(text)
        return topics.count - 1
    }

    // MARK: Rules

    private func check(_ fields: Fields) throws(AttributeFault) {
        for (name, value) in [("id", fields.id), ("source", fields.source), ("type", fields.type)] {
            guard let value, !value.isEmpty else {
                throw AttributeFault(
                    name,
                    "is missing",
                    fix: "an event needs id, source and type; for a plain record leave out all attributes"
                )
            }
            try EventAttribute.checkText(value, name)
        }
        if let source = fields.source { try EventAttribute.checkURI(source, "source") }
        if let value = fields.subject { try EventAttribute.checkText(value, "subject") }
        if let value = fields.schema {
            try EventAttribute.checkText(value, "data_schema")
            try EventAttribute.checkURI(value, "data_schema")
        }
        if let value = fields.time, !value.isEmpty { try EventAttribute.checkTime(value) }
        if let value = fields.contentType, !value.isEmpty { try EventAttribute.checkMediaType(value) }
        guard extensions.count <= Self.namesMax else {
            throw AttributeFault("extensions", "are more than \(Self.namesMax)", fix: "put data into the data")
        }
        for one in extensions {
            try EventAttribute.checkExtension(one.name)
            try EventAttribute.checkText(one.value, "extensions")
        }
    }

    private func checkHeaders(besideAttributes isEvent: Bool) throws(AttributeFault) {
        guard headers.count <= Self.namesMax else {
            throw AttributeFault("headers", "are more than \(Self.namesMax)", fix: "put data into the data")
        }
        for header in headers {
            guard !header.name.isEmpty, String(validating: header.name, as: UTF8.self) != nil else {
                throw AttributeFault("headers", "need names in UTF-8", fix: nil)
            }
            guard !isEvent || !(header.name.starts(with: "ce_".utf8) || header.name.elementsEqual("content-type".utf8))
            else {
                throw AttributeFault(
                    "headers",
                    "repeat an attribute: '\(String(decoding: header.name.prefix(60), as: UTF8.self))'",
                    fix: "set the attribute, or use extensions"
                )
            }
        }
    }
}
