// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore

/// Reads the fields of one object of a document strictly, and remembers everything that is wrong with them.
///
/// A field that is absent or null reads as nil. A value of the wrong kind, out of range or missing reads as nil too and leaves a
/// fault; faults and unknown fields of the object and all objects inside it are thrown together by ``finish()``. Reading is liberal
/// where the meaning is clear: numbers and booleans may be quoted, text may be written as a number.
package final class DocumentReader {
    /// Dotted path of the object in its document; empty at the root.
    package let path: String
    private let object: JSONObject
    private let findings: FieldFindings
    private let what: String
    private var known: [String] = []
    private var consumed: Set<String> = []
    private var children: [DocumentReader] = []

    /// Makes a reader of the whole document, which must be an object.
    ///
    /// `what` is the noun with its article for messages, for example "a trigger".
    package convenience init(_ document: Document, what: String) {
        let findings = FieldFindings(lines: document.lines)
        self.init(document.value, path: "", findings: findings, what: what)
    }

    private init(_ value: JSONValue, path: String, findings: FieldFindings, what: String) {
        self.path = path
        self.findings = findings
        self.what = what
        if case .object(let object) = value {
            self.object = object
        } else {
            object = JSONObject()
            let place = path.isEmpty ? "the document" : path
            let message = "\(place) must be \(what) with named fields, not \(Self.noun(value))"
            findings.add(.init(field: path, message: message, line: findings.line(of: path)))
        }
    }

    // MARK: Scalars

    /// Reads text; numbers and booleans are taken as they are written.
    package func string(_ name: String, aliases: [String] = [], required: Bool = false) -> String? {
        read(name, aliases, required, "text") { value in Self.text(value) }
    }

    /// Reads text that must be one of `choices`, in any case; the spelling in `choices` is returned.
    package func choice(_ name: String, aliases: [String] = [], of choices: [String], required: Bool = false) -> String?
    {
        guard let (field, value) = take(name, aliases, required) else { return nil }
        let text = Self.text(value)
        if let text, let match = choices.first(where: { $0.lowercased() == text.lowercased() }) { return match }
        let list = choices.joined(separator: ", ")
        fail(
            field,
            "\(Self.show(value)) is not one of \(list)",
            fix: suggestion(text, choices) ?? "write one of \(list)"
        )
        return nil
    }

    /// Reads a whole number in a range.
    package func int(
        _ name: String,
        aliases: [String] = [],
        in range: ClosedRange<Int> = Int.min...Int.max,
        required: Bool = false
    ) -> Int? {
        guard let (field, value) = take(name, aliases, required) else { return nil }
        guard let number = Self.integer(value) else {
            fail(field, "\(Self.show(value)) is not a whole number", fix: "write \(Self.words(range))")
            return nil
        }
        guard range.contains(number) else {
            fail(field, "\(number) is out of range", fix: "write \(Self.words(range))")
            return nil
        }
        return number
    }

    /// Reads a number in a range.
    package func double(
        _ name: String,
        aliases: [String] = [],
        in range: ClosedRange<Double> = -Double.greatestFiniteMagnitude...Double.greatestFiniteMagnitude,
        required: Bool = false
    ) -> Double? {
        guard let (field, value) = take(name, aliases, required) else { return nil }
        guard let number = value.doubleValue ?? value.stringValue.flatMap(CoreSchema.double), range.contains(number)
        else {
            let isOpen = range.upperBound == .greatestFiniteMagnitude
            let bounds = isOpen ? "a number" : "a number from \(range.lowerBound) to \(range.upperBound)"
            fail(field, "\(Self.show(value)) is not \(bounds)", fix: "write \(bounds)")
            return nil
        }
        return number
    }

    /// Reads a boolean.
    package func bool(_ name: String, aliases: [String] = [], required: Bool = false) -> Bool? {
        read(name, aliases, required, "true or false") { value in
            value.boolValue ?? value.stringValue.flatMap(CoreSchema.bool)
        }
    }

    /// Reads a value of any kind.
    package func value(_ name: String, aliases: [String] = [], required: Bool = false) -> (
        path: String, value: JSONValue
    )? {
        guard let (field, value) = take(name, aliases, required) else { return nil }
        return (path(of: field), value)
    }

    // MARK: Lists and objects

    /// Reads a list of texts; one text is a list of what stands between its commas.
    package func strings(_ name: String, aliases: [String] = [], required: Bool = false) -> [String]? {
        guard let (field, value) = take(name, aliases, required) else { return nil }
        if case .array(let elements) = value {
            var texts: [String] = []
            for (index, element) in elements.enumerated() {
                if let text = Self.text(element) {
                    texts.append(text)
                } else {
                    fail("\(field)[\(index)]", "\(Self.show(element)) is not text", fix: "write a list of texts")
                }
            }
            return texts
        }
        guard let text = Self.text(value) else {
            fail(field, "\(Self.show(value)) is not a list of texts", fix: "write [first, second] or one text")
            return nil
        }
        return text.split(separator: ",").map { Self.trim($0) }.filter { !$0.isEmpty }
    }

    /// Reads a mapping of names to texts, in the order it is written; a name with a null value reads as empty text.
    package func map(_ name: String, aliases: [String] = [], required: Bool = false) -> [(name: String, value: String)]?
    {
        guard let (field, value) = take(name, aliases, required) else { return nil }
        guard case .object(let object) = value else {
            fail(
                field,
                "\(Self.show(value)) is not a mapping",
                fix: "write names and values: {first: one, second: two}"
            )
            return nil
        }
        var pairs: [(name: String, value: String)] = []
        for member in object.members {
            if let text = member.value == .null ? "" : Self.text(member.value) {
                pairs.append((member.key, text))
            } else {
                fail("\(field).\(member.key)", "\(Self.show(member.value)) is not text", fix: "write one text")
            }
        }
        return pairs
    }

    /// Reads an object; its faults are part of this reader's.
    package func object(
        _ name: String,
        aliases: [String] = [],
        what: String? = nil,
        required: Bool = false
    ) -> DocumentReader? {
        guard let (field, value) = take(name, aliases, required) else { return nil }
        return child(value, path: path(of: field), what: what ?? "an object")
    }

    /// Reads a list of objects; a single object is a list of one.
    package func objects(
        _ name: String,
        aliases: [String] = [],
        what: String? = nil,
        required: Bool = false
    ) -> [DocumentReader]? {
        guard let (field, value) = take(name, aliases, required) else { return nil }
        switch value {
        case .array(let elements):
            return elements.enumerated().map { index, element in
                child(element, path: path(of: "\(field)[\(index)]"), what: what ?? "an object")
            }
        case .object: return [child(value, path: path(of: field), what: what ?? "an object")]
        default:
            fail(field, "\(Self.show(value)) is not a list of objects", fix: "write a list, each entry on a '- ' line")
            return nil
        }
    }

    /// Makes a reader of a value that stands at `path`; its faults are part of this reader's.
    package func child(_ value: JSONValue, path: String, what: String) -> DocumentReader {
        let reader = DocumentReader(value, path: path, findings: findings, what: what)
        children.append(reader)
        return reader
    }

    // MARK: Looking and refusing

    /// The names of all fields the object has, in order.
    package var names: [String] { object.keys }

    /// Whether the object has a field under one of the names, null or not.
    package func has(_ name: String, aliases: [String] = []) -> Bool {
        ([name] + aliases).contains { object[$0] != nil }
    }

    /// Accepts fields without reading them.
    package func ignore(_ names: String...) {
        known += names
        consumed.formUnion(names)
    }

    /// The full path of one of this object's fields.
    package func path(of field: String) -> String {
        path.isEmpty ? field : field.isEmpty ? path : "\(path).\(field)"
    }

    /// The line a field stands on, or the line of what is around it.
    package func line(of field: String) -> Int? {
        findings.line(of: path(of: field))
    }

    /// The line of any field of the document, by its full path, or the line of what is around it.
    package func line(at fullPath: String) -> Int? {
        findings.line(of: fullPath)
    }

    /// Adds a fault of one of this object's fields; an empty field means the object itself.
    package func fail(_ field: String, _ message: String, fix: String? = nil) {
        findings.add(.init(field: path(of: field), message: message, fix: fix, line: line(of: field)))
    }

    /// Adds a fault of any field of the document, by its full path.
    package func fail(at fullPath: String, _ message: String, fix: String? = nil) {
        findings.add(.init(field: fullPath, message: message, fix: fix, line: findings.line(of: fullPath)))
    }

    /// Whether anything was found wrong so far, unknown fields aside.
    package var hasFaults: Bool { !findings.faults.isEmpty }

    /// Ends reading.
    ///
    /// - Throws: `.invalid` with every fault in the order of lines, where there is any; unknown fields are faults.
    package func finish() throws(ServiceError) {
        refuseUnknown()
        guard !findings.faults.isEmpty else { return }
        let faults = findings.faults.enumerated().sorted { left, right in
            (left.element.line ?? .max, left.offset) < (right.element.line ?? .max, right.offset)
        }.map(\.element)
        guard faults.count == 1 else {
            let noun = what.hasPrefix("a ") ? what.dropFirst(2) : what.hasPrefix("an ") ? what.dropFirst(3) : what[...]
            throw ServiceError(.invalid, "the \(noun) has \(faults.count) errors", fields: faults)
        }
        let only = faults[0]
        let place = only.line.map { only.field.isEmpty ? "line \($0): " : "line \($0), " } ?? ""
        let head = only.field.isEmpty ? only.message : "\(only.field): \(only.message)"
        throw ServiceError(.invalid, "\(place)\(head)", fix: only.fix, fields: faults)
    }

    private func refuseUnknown() {
        for reader in children { reader.refuseUnknown() }
        for name in object.keys where !consumed.contains(name) {
            let near = NearestName.of(name, among: known)
            let fix = near.map { "write '\($0)'" } ?? "fields here: \(known.uniqued().joined(separator: ", "))"
            fail(name, "unknown field '\(name)' in \(what)", fix: fix)
        }
    }

    // MARK: Taking fields

    private func take(_ name: String, _ aliases: [String], _ required: Bool) -> (field: String, value: JSONValue)? {
        known.append(name)
        known += aliases
        var taken: (field: String, value: JSONValue)?
        for candidate in [name] + aliases {
            guard let value = object[candidate] else { continue }
            consumed.insert(candidate)
            guard value != .null else { continue }
            if let taken, taken.value != value {
                fail(candidate, "'\(candidate)' and '\(taken.field)' mean the same and differ", fix: "keep one of them")
            }
            if taken == nil { taken = (candidate, value) }
        }
        if taken == nil, required {
            let also = aliases.isEmpty ? "" : " (or \(aliases.joined(separator: ", ")))"
            fail(name, "missing field '\(name)'\(also) in \(what)", fix: "add '\(name)'")
        }
        return taken
    }

    private func read<T>(
        _ name: String,
        _ aliases: [String],
        _ required: Bool,
        _ wanted: String,
        _ convert: (JSONValue) -> T?
    ) -> T? {
        guard let (field, value) = take(name, aliases, required) else { return nil }
        if let converted = convert(value) { return converted }
        fail(field, "\(Self.show(value)) is not \(wanted)", fix: "write \(wanted)")
        return nil
    }

    private func suggestion(_ text: String?, _ choices: [String]) -> String? {
        guard let text, let near = NearestName.of(text, among: choices) else { return nil }
        return "write \(near)"
    }
}
