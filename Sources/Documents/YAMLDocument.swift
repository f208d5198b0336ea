// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore
import Yams

/// One YAML document by the core schema, with the line of every field.
struct YAMLDocument {
    private var lines: [String: Int] = [:]
    private var values = 0

    static func parse(_ bytes: [UInt8]) throws(ServiceError) -> Document {
        let text = String(decoding: bytes, as: UTF8.self)
        try YAMLKeyGuard.check(bytes)
        // Yams builds all nodes, some hundred bytes each, before they can be counted.
        let separators = bytes.count { $0 == 0x2C || $0 == 0x0A || $0 == 0x5B || $0 == 0x7B }
        guard separators <= 2 * DocumentParser.valuesMax else {
            throw ServiceError(
                .tooLarge,
                "the document has \(separators) lines and entries, more than the \(2 * DocumentParser.valuesMax) that are read",
                fix: "split it or leave out what is not configuration"
            )
        }
        let root: Node?
        do {
            root = try Parser(yaml: text, encoding: .utf8).singleRoot()
        } catch let error as YamlError {
            throw refusal(error)
        } catch {
            throw ServiceError(.internal, "reading a YAML document failed: \(error)")
        }
        guard let root else { return Document(value: .null, lines: ["": 1]) }
        var reader = YAMLDocument()
        let value = try reader.value(root, path: "", line: nil)
        return Document(value: value, lines: reader.lines)
    }

    /// Converts a node; `line` overrides the node's own where an alias stands for it.
    private mutating func value(_ node: Node, path: String, line: Int?) throws(ServiceError) -> JSONValue {
        try count()
        let line = line ?? node.mark?.line
        if let line, lines.count < DocumentParser.linesMax { lines[path] = line }
        switch node {
        case .scalar(let scalar): return try Self.scalar(scalar, path: path)
        case .sequence(let sequence):
            try Self.checkTag(sequence.tag, "seq", line: line)
            var elements: [JSONValue] = []
            elements.reserveCapacity(sequence.count)
            for element in sequence {
                elements.append(try value(element, path: "\(path)[\(elements.count)]", line: nil))
            }
            return .array(elements)
        case .mapping(let mapping):
            try Self.checkTag(mapping.tag, "map", line: line)
            return .object(try object(mapping, path: path))
        case .alias: throw .malformed("alias without an anchor", line: line)
        }
    }

    private mutating func count() throws(ServiceError) {
        values += 1
        guard values <= DocumentParser.valuesMax else {
            throw ServiceError(
                .tooLarge,
                "the document has more than \(DocumentParser.valuesMax) values once its aliases are followed",
                fix: "write less, or use fewer aliases inside anchored values"
            )
        }
    }

    private mutating func object(_ mapping: Node.Mapping, path: String) throws(ServiceError) -> JSONObject {
        var members: [JSONObject.Member] = []
        var seen: [String: Int] = [:]
        var merges: [(node: Node, line: Int?)] = []
        for (keyNode, valueNode) in mapping {
            guard case .scalar(let key) = keyNode else {
                throw .malformed("a key must be text, not a list or a mapping", line: keyNode.mark?.line)
            }
            let line = key.mark?.line
            if key.string == "<<", key.style == .plain {
                merges.append((valueNode, line))
                continue
            }
            if let first = seen.updateValue(line ?? 0, forKey: key.string) {
                throw .malformed(
                    "key '\(key.string)' is given twice in one mapping, first on line \(first)",
                    line: line,
                    fix: "keep one of them"
                )
            }
            let fieldPath = path.isEmpty ? key.string : "\(path).\(key.string)"
            members.append(.init(key: key.string, value: try value(valueNode, path: fieldPath, line: line)))
        }
        for merge in merges { try append(merge.node, line: merge.line, path: path, to: &members, seen: &seen) }
        return JSONObject(members: members)
    }

    private mutating func append(
        _ node: Node,
        line: Int?,
        path: String,
        to members: inout [JSONObject.Member],
        seen: inout [String: Int]
    ) throws(ServiceError) {
        try count()
        switch node {
        case .mapping(let mapping):
            for member in try object(mapping, path: path).members where seen[member.key] == nil {
                seen[member.key] = line ?? 0
                members.append(member)
            }
        case .sequence(let sequence):
            for element in sequence {
                guard case .mapping = element else {
                    throw .malformed("'<<' merges mappings only", line: line)
                }
                try append(element, line: line, path: path, to: &members, seen: &seen)
            }
        default: throw .malformed("'<<' merges mappings only", line: line)
        }
    }

    private static func scalar(_ scalar: Node.Scalar, path: String) throws(ServiceError) -> JSONValue {
        let text = scalar.string
        let tag = scalar.tag.description
        guard tag.isEmpty || tag == "!" else { return try tagged(text, tag, line: scalar.mark?.line) }
        guard scalar.style == .plain, tag != "!" else { return .string(text) }
        if CoreSchema.isNull(text) { return .null }
        if let value = CoreSchema.bool(text), text == (value ? "true" : "false") { return .bool(value) }
        if let value = CoreSchema.int(text), text == String(value) { return .int(value) }
        if let value = CoreSchema.double(text), text == value.description { return .double(value) }
        return .string(text)
    }

    private static func tagged(_ text: String, _ tag: String, line: Int?) throws(ServiceError) -> JSONValue {
        let value: JSONValue?
        switch tag {
        case standardTag + "str": value = .string(text)
        case standardTag + "int": value = CoreSchema.int(text).map(JSONValue.int)
        case standardTag + "float": value = CoreSchema.double(text).map(JSONValue.double)
        case standardTag + "bool": value = CoreSchema.bool(text).map(JSONValue.bool)
        case standardTag + "null": value = CoreSchema.isNull(text) ? .null : nil
        default: throw .malformed("unknown tag '\(tag)'", line: line, fix: "leave the tag out")
        }
        guard let value else { throw .malformed("'\(text.prefix(80))' does not fit its tag", line: line) }
        return value
    }

    private static func checkTag(_ tag: Tag, _ wanted: String, line: Int?) throws(ServiceError) {
        let name = tag.description
        guard name.isEmpty || name == "!" || name == standardTag + wanted else {
            throw .malformed("unknown tag '\(name)'", line: line, fix: "leave the tag out")
        }
    }

    private static let standardTag = "tag:yaml.org,2002:"

    private static func refusal(_ error: YamlError) -> ServiceError {
        switch error {
        case .scanner(let context, let problem, let mark, let yaml),
            .parser(let context, let problem, let mark, let yaml):
            if let column = tab(in: yaml, line: mark.line) {
                return .malformed(
                    "malformed YAML, the line is indented with a TAB",
                    line: mark.line,
                    column: column,
                    fix: "indent with spaces"
                )
            }
            let around = context.map { " \($0.text) that starts on line \($0.mark.line)" } ?? ""
            return .malformed(
                "malformed YAML, \(problem)\(around)",
                line: mark.line,
                column: mark.column,
                fix: "check the indentation and quotes on this line and the one before"
            )
        case .composer(_, let problem, let mark, _):
            if problem.contains("another document") {
                return .malformed(
                    "a second YAML document starts here; one is read at a time",
                    line: mark.line,
                    fix: "submit each document in a request of its own"
                )
            }
            return .malformed(problem, line: mark.line, column: mark.column)
        case .reader(let problem, let offset, let value, let yaml):
            let before = yaml.prefix(offset ?? 0)
            let line = 1 + before.utf8.count { $0 == 0x0A }
            return .malformed("\(problem) (character \(value), byte \(before.utf8.count))", line: line)
        case .duplicatedKeysInMapping(let names, let context):
            return duplicate(names.first ?? "", firstMark: context.mark, text: context.text)
        default: return .malformed("malformed YAML: \(error)", line: nil)
        }
    }

    /// The column of a TAB among the white space a line starts with.
    private static func tab(in text: String, line: Int) -> Int? {
        var left = line - 1
        var rest = text.utf8[...]
        while left > 0 {
            guard let end = rest.firstIndex(of: 0x0A) else { return nil }
            rest = rest[rest.index(after: end)...]
            left -= 1
        }
        let indentation = rest.prefix { $0 == 0x20 || $0 == 0x09 }
        return indentation.firstIndex(of: 0x09).map { indentation.distance(from: indentation.startIndex, to: $0) + 1 }
    }

    /// Names the line of the repetition, found by the same key at the same column further down.
    private static func duplicate(_ name: String, firstMark: Mark, text: String) -> ServiceError {
        var repeated: Int?
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated()
        where index >= firstMark.line && repeated == nil {
            let key = line.dropFirst(firstMark.column - 1)
            let lead = line.prefix(firstMark.column - 1)
            guard lead.allSatisfy({ $0 == " " || $0 == "-" }) else { continue }
            let bare = key.hasPrefix("\"") || key.hasPrefix("'") ? key.dropFirst() : key
            guard bare.hasPrefix(name) else { continue }
            let rest = bare.dropFirst(name.count).drop { $0 == " " || $0 == "\"" || $0 == "'" }
            if rest.first == ":" { repeated = index + 1 }
        }
        let place = repeated == nil ? "" : ", first on line \(firstMark.line)"
        return .malformed(
            "key '\(name)' is given twice in one mapping\(place)",
            line: repeated ?? firstMark.line,
            fix: "keep one of them"
        )
    }
}
