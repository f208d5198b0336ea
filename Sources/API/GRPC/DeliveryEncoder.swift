// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import MartletCore

/// Writes records as `martlet.v1.Delivery`.
struct DeliveryEncoder {
    private var event: [UInt8] = []
    private var delivery: [UInt8] = []
    private var pair: [UInt8] = []

    init() {}

    /// Appends a delivery as a field of `SubscribeResponse`.
    mutating func append(
        _ record: RecordView,
        of partition: TopicPartition,
        id: UInt64,
        attempt: UInt32,
        to bytes: inout [UInt8]
    ) {
        event.removeAll(keepingCapacity: true)
        delivery.removeAll(keepingCapacity: true)
        if record.header("ce_id") == nil, let structured = Self.structured(record) {
            put(structured, data: structured.data.map { $0[...] })
        } else {
            putBinary(record)
        }
        if let key = record.key { event.putField(10, key) }
        event.putField(12, text: partition.topic)
        event.putVarint(13 << 3)
        event.putVarint(UInt64(partition.partition))
        delivery.putField(1, id)
        delivery.putField(2, event)
        delivery.putField(3, UInt64(bitPattern: record.offset))
        delivery.putField(4, UInt64(bitPattern: record.timestamp))
        delivery.putField(5, UInt64(attempt))
        bytes.putField(1, delivery)
    }

    /// Attributes from `ce_` headers, where it is an event, and the other headers as they are.
    private mutating func putBinary(_ record: RecordView) {
        let isEvent = ["ce_id", "ce_source", "ce_type"].allSatisfy { record.header($0) != nil }
        for header in record.headers {
            if isEvent, let value = header.value, let field = Self.attribute(header.name) {
                // Text of protobuf must be UTF-8; what is not is passed on as a header.
                if String(validating: value, as: UTF8.self) != nil {
                    event.putField(field, value)
                    continue
                }
            } else if isEvent, let value = header.value, header.name.starts(with: "ce_".utf8),
                String(validating: value, as: UTF8.self) != nil
            {
                if header.name.elementsEqual("ce_specversion".utf8) { continue }
                putPair(8, header.name.dropFirst(3), value)
                continue
            }
            putPair(9, header.name, header.value)
        }
        if let value = record.value { event.putField(11, value) }
    }

    private mutating func putPair(_ field: UInt64, _ name: ArraySlice<UInt8>, _ value: ArraySlice<UInt8>?) {
        pair.removeAll(keepingCapacity: true)
        pair.putField(1, name)
        if let value { pair.putField(2, value) }
        event.putField(field, pair)
    }

    private mutating func put(_ one: CloudEvent, data: ArraySlice<UInt8>?) {
        event.putField(1, text: one.id)
        event.putField(2, text: one.source)
        event.putField(3, text: one.type)
        event.putField(4, text: one.subject)
        event.putField(5, text: one.time)
        event.putField(6, text: one.dataContentType)
        event.putField(7, text: one.dataSchema)
        for item in one.extensions { putPair(8, Array(item.name.utf8)[...], Array(item.value.utf8)[...]) }
        if let data { event.putField(11, data) }
    }

    /// The event of a record whose value is a whole one in JSON.
    private static func structured(_ record: RecordView) -> CloudEvent? {
        guard let type = record.header("content-type"), type.starts(with: "application/cloudevents+json".utf8) else {
            return nil
        }
        return try? CloudEvent(record: record)
    }

    private static func attribute(_ name: ArraySlice<UInt8>) -> UInt64? {
        guard name.first == UInt8(ascii: "c") else { return nil }
        if name.elementsEqual("ce_id".utf8) { return 1 }
        if name.elementsEqual("ce_source".utf8) { return 2 }
        if name.elementsEqual("ce_type".utf8) { return 3 }
        if name.elementsEqual("ce_subject".utf8) { return 4 }
        if name.elementsEqual("ce_time".utf8) { return 5 }
        if name.elementsEqual("content-type".utf8) { return 6 }
        if name.elementsEqual("ce_dataschema".utf8) { return 7 }
        return nil
    }
}
