// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore

/// A record as text, with the directives kcat has.
struct RecordFormat: Equatable {
    private enum Part: Equatable {
        case text([UInt8])
        case field(Character)
    }

    private static let fields: Set<Character> = ["s", "S", "k", "K", "t", "p", "o", "T", "h"]
    private let parts: [Part]

    init(_ text: String) throws {
        var parts: [Part] = []
        var literal: [UInt8] = []
        var rest = text[...]
        while let character = rest.popFirst() {
            guard character == "%" || character == "\\" else {
                literal += Array(String(character).utf8)
                continue
            }
            guard let next = rest.popFirst() else {
                throw CommandFailure.usage("--format ends with '\(character)'", fix: "write it twice for itself")
            }
            if character == "\\" {
                literal.append(try Self.escape(next, &rest))
            } else if next == "%" {
                literal.append(0x25)
            } else {
                guard Self.fields.contains(next) else {
                    throw CommandFailure.usage(
                        "--format has '%\(next)', which stands for nothing",
                        fix: "use %s %S %k %K %t %p %o %T %h, or %% for a percent sign"
                    )
                }
                if !literal.isEmpty { parts.append(.text(literal)) }
                literal.removeAll()
                parts.append(.field(next))
            }
        }
        if !literal.isEmpty { parts.append(.text(literal)) }
        self.parts = parts
    }

    private static func escape(_ next: Character, _ rest: inout Substring) throws -> UInt8 {
        switch next {
        case "n": return 0x0A
        case "t": return 0x09
        case "r": return 0x0D
        case "0": return 0
        case "\\": return 0x5C
        case "x":
            let digits = rest.prefix(2)
            guard digits.count == 2, let byte = UInt8(digits, radix: 16) else { break }
            rest = rest.dropFirst(2)
            return byte
        default: break
        }
        throw CommandFailure.usage(
            "--format has '\\\(next)', which stands for nothing",
            fix: "use \\n \\t \\r \\0 \\\\ or \\xHH"
        )
    }

    func append(_ record: JSONValue, topic: String, to bytes: inout [UInt8]) {
        for part in parts {
            switch part {
            case .text(let text): bytes += text
            case .field(let name): bytes += Self.field(name, record, topic)
            }
        }
    }

    private static func field(_ name: Character, _ record: JSONValue, _ topic: String) -> [UInt8] {
        func number(_ name: String) -> [UInt8] { Array("\(record[name]?.intValue ?? -1)".utf8) }
        switch name {
        case "s": return RecordText.bytes("value", of: record) ?? []
        case "k": return RecordText.bytes("key", of: record) ?? []
        case "S": return Array("\(RecordText.bytes("value", of: record)?.count ?? -1)".utf8)
        case "K": return Array("\(RecordText.bytes("key", of: record)?.count ?? -1)".utf8)
        case "t": return Array(topic.utf8)
        case "p": return number("partition")
        case "o": return number("offset")
        case "T": return number("timestamp")
        default:
            let headers = (record["headers"]?.arrayValue ?? []).map { header in
                Array((header["name"]?.stringValue ?? "").utf8) + [0x3D]
                    + (RecordText.bytes("value", of: header) ?? Array("NULL".utf8))
            }
            return Array(headers.joined(separator: [0x2C]))
        }
    }
}
