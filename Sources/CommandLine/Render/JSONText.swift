// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore

/// JSON for people and scripts: two spaces of indentation, and keys in an order that does not change.
package enum JSONText {
    /// The text of `value`, ended by a line feed.
    package static func pretty(_ value: JSONValue) -> String {
        var buffer: [UInt8] = []
        append(value, depth: 0, to: &buffer)
        buffer.append(0x0A)
        return String(decoding: buffer, as: UTF8.self)
    }

    /// Sorts the keys the engine made: what identifies comes first, the rest by name; people's own payloads stay as they are.
    package static func ordered(_ value: JSONValue) -> JSONValue {
        switch value {
        case .array(let elements): return .array(elements.map { ordered($0) })
        case .object(let object):
            let members = object.members.map { member in
                let isPayload = member.key == "event" || (member.key == "data" && member.value.arrayValue == nil)
                return JSONObject.Member(key: member.key, value: isPayload ? member.value : ordered(member.value))
            }
            return .object(
                JSONObject(
                    members: members.sorted {
                        let (left, right) = (rank[$0.key] ?? 100, rank[$1.key] ?? 100)
                        return left == right ? $0.key < $1.key : left < right
                    }
                )
            )
        default: return value
        }
    }

    private static let rank: [String: Int] = {
        let first = [
            "data", "id", "guid", "name", "key", "value", "type", "status", "reason", "description", "trace_id",
            "span_id",
            "parent_span_id", "time", "start", "start_micros", "duration_micros",
        ]
        let last = ["tags", "owner", "created_at", "updated_at", "vrn", "pagination"]
        var rank: [String: Int] = [:]
        for (index, key) in first.enumerated() { rank[key] = index }
        for (index, key) in last.enumerated() { rank[key] = 200 + index }
        return rank
    }()

    private static func append(_ value: JSONValue, depth: Int, to buffer: inout [UInt8]) {
        switch value {
        case .array(let elements) where !elements.isEmpty:
            buffer.append(0x5B)
            for (index, element) in elements.enumerated() {
                newLine(depth + 1, isFirst: index == 0, to: &buffer)
                append(element, depth: depth + 1, to: &buffer)
            }
            buffer.append(0x0A)
            indent(depth, to: &buffer)
            buffer.append(0x5D)
        case .object(let object) where !object.isEmpty:
            buffer.append(0x7B)
            for (index, member) in object.members.enumerated() {
                newLine(depth + 1, isFirst: index == 0, to: &buffer)
                JSONWriter.append(member.key, to: &buffer)
                buffer.append(contentsOf: ": ".utf8)
                append(member.value, depth: depth + 1, to: &buffer)
            }
            buffer.append(0x0A)
            indent(depth, to: &buffer)
            buffer.append(0x7D)
        default: JSONWriter.append(value, to: &buffer)
        }
    }

    private static func newLine(_ depth: Int, isFirst: Bool, to buffer: inout [UInt8]) {
        if !isFirst { buffer.append(0x2C) }
        buffer.append(0x0A)
        indent(depth, to: &buffer)
    }

    private static func indent(_ depth: Int, to buffer: inout [UInt8]) {
        buffer.append(contentsOf: repeatElement(0x20, count: 2 * depth))
    }
}
