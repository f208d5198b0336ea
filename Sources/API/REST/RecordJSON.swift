// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore

/// Records as JSON: text where bytes are UTF-8, else base64 in a member of its own.
enum RecordJSON {
    /// Most records in one request.
    static let countMax = 100_000
    private static let headersMax = 1000

    /// Appends one record as an object on one line.
    static func append(_ record: TopicRecord, to bytes: inout [UInt8]) {
        bytes += Array(#"{"partition":"#.utf8)
        JSONWriter.append(Int64(record.partition), to: &bytes)
        bytes += Array(#","offset":"#.utf8)
        JSONWriter.append(record.offset, to: &bytes)
        bytes += Array(#","timestamp":"#.utf8)
        JSONWriter.append(record.timestamp, to: &bytes)
        bytes.append(0x2C)
        append("key", record.key, to: &bytes)
        bytes.append(0x2C)
        append("value", record.value, to: &bytes)
        bytes += Array(#","headers":["#.utf8)
        for (index, header) in record.headers.enumerated() {
            if index > 0 { bytes.append(0x2C) }
            bytes += Array(#"{"name":"#.utf8)
            JSONWriter.append(header.name, to: &bytes)
            bytes.append(0x2C)
            append("value", header.value, to: &bytes)
            bytes.append(0x7D)
        }
        bytes += Array("]}".utf8)
    }

    private static func append(_ name: String, _ field: [UInt8]?, to bytes: inout [UInt8]) {
        guard let field else {
            bytes += Array("\"\(name)\":null".utf8)
            return
        }
        if let text = String(validating: field, as: UTF8.self) {
            bytes += Array("\"\(name)\":".utf8)
            JSONWriter.append(text, to: &bytes)
        } else {
            bytes += Array("\"\(name)_base64\":\"\(Data(field).base64EncodedString())\"".utf8)
        }
    }

    /// The members of a page: its records, where to go on, and where each partition stands.
    static func page(_ page: RecordPage) -> [UInt8] {
        var bytes = Array(#"{"data":["#.utf8)
        for (index, record) in page.records.enumerated() {
            if index > 0 { bytes.append(0x2C) }
            append(record, to: &bytes)
        }
        bytes += Array(#"],"partitions":["#.utf8)
        for (index, (partition, offset)) in page.next.offsets.sorted(by: { $0.key < $1.key }).enumerated() {
            if index > 0 { bytes.append(0x2C) }
            bytes += Array(
                #"{"partition":\#(partition),"next_offset":\#(offset),"end_offset":\#(page.ends[partition] ?? offset)}"#
                    .utf8
            )
        }
        bytes += Array(
            #"],"at_end":\#(page.isAtEnd),"pagination":{"next_cursor":"\#(page.next.text)","previous_cursor":null}}"#
                .utf8
        )
        return bytes
    }

    /// The members of an answer to a reader of a group.
    static func records(_ found: GroupRecords) -> [UInt8] {
        var bytes = Array(#"{"data":["#.utf8)
        for (index, record) in found.records.enumerated() {
            if index > 0 { bytes.append(0x2C) }
            append(record, to: &bytes)
        }
        bytes += Array(#"],"acknowledge":\#(found.mark),"at_end":\#(found.isAtEnd)}"#.utf8)
        return bytes
    }

    // MARK: Reading

    /// The records of a request.
    static func records(_ call: Call) throws -> [NewRecord] {
        var fields = try call.fields()
        let list = try FieldReader.required(try fields.array("records"), "records")
        try fields.finish()
        guard (1...countMax).contains(list.count) else {
            throw ServiceError.invalid(
                field: "records",
                "has \(list.count) records",
                fix: "send 1 to \(countMax) at once"
            )
        }
        return try list.enumerated().map { index, item in try record(item, "records[\(index)]") }
    }

    private static func record(_ value: JSONValue, _ place: String) throws -> NewRecord {
        guard case .object(let object) = value else {
            throw ServiceError.invalid(field: place, "must be an object, not \(value.kind.noun)")
        }
        do {
            var fields = FieldReader(object)
            var record = NewRecord()
            if let number = try fields.integer("partition") {
                guard let partition = Int32(exactly: number), partition >= 0 else {
                    throw ServiceError.invalid(field: "partition", "\(number) is no partition")
                }
                record.partition = partition
            }
            record.timestamp = try fields.integer("timestamp")
            if let timestamp = record.timestamp, timestamp < 0 {
                throw ServiceError.invalid(
                    field: "timestamp",
                    "\(timestamp) is negative",
                    fix: "write milliseconds since 1970"
                )
            }
            record.key = try bytes("key", &fields)
            record.value = try bytes("value", &fields)
            let headers = try fields.array("headers") ?? []
            guard headers.count <= headersMax else {
                throw ServiceError.invalid(field: "headers", "are \(headers.count); at most \(headersMax) are taken")
            }
            record.headers = try headers.map(header)
            // What reading gave may be written again as it is.
            _ = try fields.integer("offset")
            try fields.finish()
            return record
        } catch let error as ServiceError {
            var located = error
            located.fields = error.fields.map { field in
                ServiceError.FieldError(field: "\(place).\(field.field)", message: field.message, fix: field.fix)
            }
            throw located
        }
    }

    private static func header(_ value: JSONValue) throws -> TopicRecord.Header {
        guard case .object(let object) = value else {
            throw ServiceError.invalid(field: "headers", "must be objects with name and value")
        }
        var fields = FieldReader(object)
        let name = try FieldReader.required(try fields.string("name"), "name")
        let header = TopicRecord.Header(name: name, value: try bytes("value", &fields))
        try fields.finish()
        return header
    }

    private static func bytes(_ name: String, _ fields: inout FieldReader) throws -> [UInt8]? {
        let text = try fields.string(name)
        guard let encoded = try fields.string("\(name)_base64") else { return text.map { Array($0.utf8) } }
        guard text == nil else {
            throw ServiceError.invalid(field: name, "is given as text and in base64", fix: "leave one of them out")
        }
        guard let data = Data(base64Encoded: encoded) else {
            throw ServiceError.invalid(field: "\(name)_base64", "is not base64")
        }
        return Array(data)
    }
}
