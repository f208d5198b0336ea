// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore

/// A CloudEvent in structured form, as `invoke` and `topics publish` send it.
struct EventDocument: Sendable {
    private var object: JSONObject
    /// The text of JSON data; nil where it is in `object` alone.
    private let data: [UInt8]?

    /// Completes an event people wrote: id, specversion, source, type, time and content type where they are missing.
    ///
    /// JSON data goes to the engine as it was written, with every digit of its numbers and every field.
    init(completing written: WrittenEvent, name: String, type: String?, now: Date = Date()) throws {
        guard case .object(var object) = written.value else {
            throw CommandFailure(
                .refused,
                "\(name) is not an event: attributes and 'data' must stand at the top level",
                fix: "write id, type, source, subject and data as fields of one mapping"
            )
        }
        if let type { object["type"] = .string(type) }
        let defaults: [(String, String)] = [
            ("specversion", "1.0"), ("id", UUID().uuidString.lowercased()), ("source", "vastdata.com:martlet"),
            ("type", Self.publishedType), ("time", Timestamp.format(now)),
        ]
        for (key, text) in defaults where object[key] == nil || object[key] == .null { object[key] = .string(text) }
        data = written.data
        if object["data"] != nil, object["datacontenttype"] == nil { object["datacontenttype"] = "application/json" }
        var members: [JSONObject.Member] = []
        for member in object.members where member.value != .null {
            guard member.key == "data" || member.key == "data_base64" else {
                members.append(.init(key: member.key, value: .string(try Self.attribute(member, name: name))))
                continue
            }
            members.append(member)
        }
        self.object = JSONObject(members: members)
    }

    /// The test event of `invoke -g`.
    init(generatedOf type: String?, now: Date = Date()) {
        data = nil
        object = JSONObject(members: [
            .init(key: "specversion", value: "1.0"),
            .init(key: "id", value: .string(UUID().uuidString.lowercased())),
            .init(key: "source", value: .string("vastdata.com:trigger1.\(UUID().uuidString.lowercased())")),
            .init(key: "type", value: .string(type ?? Self.generatedType)),
            .init(key: "subject", value: "vastdata.com:kafka-view.default-topic"),
            .init(key: "time", value: .string(Timestamp.format(now))),
            .init(key: "datacontenttype", value: "application/json"),
            .init(key: "triggerext1", value: "cli-generated"),
            .init(key: "triggerext2", value: "test-event"),
            .init(key: "data", value: ["msg": "hello"]),
        ])
    }

    /// The type of an event that names none: it says where it came from, and no trigger makes such events.
    static let publishedType = "vastdata.com:Message.Published"
    /// The type of test events, as the reference writes it.
    static let generatedType = "vastdata.com:Element.ObjectCreated"

    /// The event in structured form.
    var bytes: [UInt8] {
        var bytes: [UInt8] = [0x7B]
        for member in object.members {
            if bytes.count > 1 { bytes.append(0x2C) }
            JSONWriter.append(member.key, to: &bytes)
            bytes.append(0x3A)
            if member.key == "data", let data { bytes += data } else { JSONWriter.append(member.value, to: &bytes) }
        }
        bytes.append(0x7D)
        return bytes
    }

    /// Events in batched form.
    static func batch(_ events: [EventDocument]) -> [UInt8] {
        Array("[".utf8) + Array(events.map(\.bytes).joined(separator: Array(",".utf8))) + Array("]".utf8)
    }

    var id: String { object["id"]?.stringValue ?? "" }
    var type: String { object["type"]?.stringValue ?? "" }

    private static func attribute(_ member: JSONObject.Member, name: String) throws -> String {
        switch member.value {
        case .string(let text): return text
        case .int, .bool, .double, .number: return member.value.text
        default:
            throw CommandFailure(
                .refused,
                "\(name): attribute '\(member.key)' is \(member.value.kind.noun), but attributes are plain values",
                fix: "put nested values under 'data'"
            )
        }
    }
}
