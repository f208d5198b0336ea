// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore
import Yams

/// YAML to and from values; keys keep their order.
package enum YAMLText {
    /// The text of `value`, ended by a line feed.
    package static func write(_ value: JSONValue) throws -> String {
        let text = try Yams.serialize(node: node(value), width: -1, allowUnicode: true)
        return text.hasSuffix("\n") ? text : text + "\n"
    }

    /// Reads one document, JSON included.
    ///
    /// - Throws: `CommandFailure` `.refused`, with the line.
    package static func read(_ bytes: [UInt8], name: String) throws -> JSONValue {
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw CommandFailure(.refused, "\(name) is not UTF-8 text")
        }
        if let first = text.first(where: { !$0.isWhitespace }), first == "{" || first == "[",
            let value = try? JSONValue(parsing: bytes)  // YAML's flow style begins the same way and is read below.
        {
            return value
        }
        do {
            guard let node = try Yams.compose(yaml: text) else { return .null }
            return try value(node, name: name, depth: 0)
        } catch let error as YamlError {
            throw CommandFailure(.refused, "\(name): \(describe(error))", fix: "write it as YAML or JSON")
        }
    }

    private static func describe(_ error: YamlError) -> String {
        switch error {
        case .scanner(let context, let problem, let mark, _), .parser(let context, let problem, let mark, _),
            .composer(let context, let problem, let mark, _):
            let before = context.map { $0.description + " " } ?? ""
            return "line \(mark.line): \(before)\(problem)".replacing("\n", with: " ")
        case .duplicatedKeysInMapping(let duplicates, let context):
            return "line \(context.mark.line): key written twice: \(duplicates.map { "\($0)" }.joined(separator: ", "))"
        default: return "\(error)".replacing("\n", with: " ")
        }
    }

    private static func value(_ node: Node, name: String, depth: Int) throws -> JSONValue {
        guard depth < 128 else { throw CommandFailure(.refused, "\(name): nested deeper than 128 levels") }
        switch node {
        case .scalar(let scalar):
            switch node.tag {
            case Tag(.null): return .null
            case Tag(.bool): return Bool.construct(from: scalar).map { .bool($0) } ?? .string(scalar.string)
            case Tag(.int), Tag(.float):
                if let number = jsonNumber(scalar.string) { return number }
                if let number = Int64.construct(from: scalar) { return .int(number) }
                guard let number = Double.construct(from: scalar), number.isFinite else {
                    return .string(scalar.string)
                }
                return .double(number)
            default: return .string(scalar.string)
            }
        case .sequence(let sequence):
            return .array(try sequence.map { try value($0, name: name, depth: depth + 1) })
        case .mapping(let mapping):
            var members: [JSONObject.Member] = []
            for (key, element) in mapping {
                guard let text = key.scalar?.string else {
                    let line = key.mark.map { "line \($0.line): " } ?? ""
                    throw CommandFailure(.refused, "\(name): \(line)a key must be plain text")
                }
                members.append(.init(key: text, value: try value(element, name: name, depth: depth + 1)))
            }
            return .object(JSONObject(members: members))
        case .alias:
            throw CommandFailure(.refused, "\(name): an alias without an anchor")
        }
    }

    /// A number that JSON writes the same way, with all its digits; nil for YAML's own spellings.
    private static func jsonNumber(_ text: String) -> JSONValue? {
        // What is not JSON's spelling is read as YAML's.
        guard let value = try? JSONValue(parsing: text), value.kind == .number else { return nil }
        return value
    }

    private static func node(_ value: JSONValue) throws -> Node {
        switch value {
        case .null: return Node("null", Tag(.null))
        case .bool(let flag): return Node(flag ? "true" : "false", Tag(.bool))
        case .int(let number): return Node(String(number), Tag(.int))
        case .double(let number):
            // Without a point YAML would not take it for a number.
            let text = number.description
            return text.contains(".") ? Node(text, Tag(.float)) : Node.scalar(number.represented())
        case .number(let text): return Node(text, Tag(text.contains { ".eE".contains($0) } ? .float : .int))
        case .string(let text):
            let scalar = Node.scalar(text.represented())
            guard text.contains("\n"), !text.hasPrefix(" "), !text.hasPrefix("\n") else { return scalar }
            return Node(text, Tag(.str), .literal)
        case .array(let elements): return Node(try elements.map { try node($0) }, Tag(.seq), .any)
        case .object(let object):
            return Node(
                // YAML has no repeated keys: the last counts.
                try JSONObject(members: object.members).members.map {
                    (Node.scalar($0.key.represented()), try node($0.value))
                },
                Tag(.map),
                .any
            )
        }
    }
}
