// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore
import SwiftProtobuf

extension OTLPValue {
    /// The value as attributes and messages show it: a string as it is, bytes as Base64, lists and maps as JSON.
    var text: String {
        switch value {
        case .stringValue(let text): text
        case .boolValue(let flag): flag ? "true" : "false"
        case .intValue(let number): String(number)
        case .doubleValue(let number): Self.text(number)
        case .bytesValue(let data): data.base64EncodedString()
        case .arrayValue, .kvlistValue: json.text
        case .stringValueStrindex, nil: ""
        }
    }

    private var json: JSONValue {
        switch value {
        case .stringValue(let text): .string(text)
        case .boolValue(let flag): .bool(flag)
        case .intValue(let number): .int(number)
        case .doubleValue(let number): number.isFinite ? .double(number) : .string(Self.text(number))
        case .bytesValue(let data): .string(data.base64EncodedString())
        case .arrayValue(let list): .array(list.values.map(\.json))
        case .kvlistValue(let list):
            .object(JSONObject(members: list.values.map { .init(key: $0.key, value: $0.value.json) }))
        case .stringValueStrindex, nil: .null
        }
    }

    /// Numbers that are none are named as in protobuf's JSON.
    private static func text(_ number: Double) -> String {
        if number.isNaN { return "NaN" }
        guard number.isFinite else { return number > 0 ? "Infinity" : "-Infinity" }
        return JSONValue.double(number).text
    }
}

extension [OTLPKeyValue] {
    /// As a dictionary; of a key that comes twice the last stays.
    var texts: [String: String] {
        var all = [String: String](minimumCapacity: count)
        for pair in self { all[pair.key] = pair.value.text }
        return all
    }
}

extension [String: String] {
    /// As a list in the order of the keys.
    var keyValues: [OTLPKeyValue] {
        sorted { $0.key < $1.key }.map { key, value in
            .with {
                $0.key = key
                $0.value.stringValue = value
            }
        }
    }

    /// Adds a count that is not zero.
    mutating func add(count: UInt32, as key: String) {
        if count > 0 { self[key] = String(count) }
    }

    /// Adds a text that is not empty.
    mutating func add(text: String, as key: String) {
        if !text.isEmpty { self[key] = text }
    }
}
