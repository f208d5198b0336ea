// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore

/// A secret as people submit it, in either of its two forms.
///
/// Form A is `{name, description?, tags?, entries: [{key, value}]}`, where `entries` may also map keys to values.
/// Form B is `{<name>: {<key>: <value>}}`.
struct SecretDocument: Sendable {
    /// One key with its value.
    struct Entry: Sendable {
        var key: String
        var value: String
    }

    static let entriesMax = 1000
    /// All keys and values together.
    static let bytesMax = 1 << 20

    var name: String?
    var description: String?
    var tags: [String]?
    var entries: [Entry]?

    private static let known = ["name", "description", "tags", "entries", "kubernetes_cluster_vrn", "namespace"]

    init(_ document: Document) throws {
        guard let object = document.value.objectValue else {
            throw ServiceError.invalid(
                field: "",
                "a secret is an object, not \(document.value.kind.noun)",
                fix: "write {name, entries: [{key, value}]} or {<name>: {<key>: <value>}}",
                line: document.lines[""]
            )
        }
        var errors = Refusals(lines: document.lines)
        if object.count == 1, let member = object.members.first, case .object(let values) = member.value,
            member.key != "entries"
        {
            name = member.key
            entries = Self.entries(values, at: member.key, &errors)
        } else {
            readFields(object, &errors)
        }
        if let entries, errors.fields.isEmpty { Self.checkEntries(entries, &errors) }
        try errors.check(what: "the secret")
    }

    private mutating func readFields(_ object: JSONObject, _ errors: inout Refusals) {
        for member in object.members {
            switch (member.key, member.value) {
            case ("name", .string(let text)): name = text
            case ("description", .string(let text)): description = text
            case ("description", .null): description = ""
            case ("tags", .array(let items)):
                tags = []
                for (index, item) in items.enumerated() {
                    if let text = item.stringValue {
                        tags?.append(text)
                    } else {
                        errors.add("tags[\(index)]", "must be a string, not \(item.kind.noun)")
                    }
                }
            case ("tags", .null): tags = []
            case ("entries", .array(let items)): entries = Self.entries(items, &errors)
            case ("entries", .object(let values)): entries = Self.entries(values, at: "entries", &errors)
            case ("kubernetes_cluster_vrn", .string), ("namespace", .string), ("kubernetes_cluster_vrn", .null),
                ("namespace", .null):
                break  // Accepted because existing files have them; secrets live in the catalog.
            case (let key, let value) where Self.known.contains(key):
                let wanted =
                    key == "tags" ? "a list of strings" : key == "entries" ? "a list of {key, value}" : "a string"
                errors.add(key, "must be \(wanted), not \(value.kind.noun)")
            case (let key, .object):
                errors.add(
                    key,
                    "is not a field of a secret",
                    fix: "put each secret of the short form {<name>: {<key>: <value>}} into a document of its own"
                )
            case (let key, _):
                errors.add(
                    key,
                    "is not a field of a secret",
                    fix: "known fields: \(Self.known.joined(separator: ", "))"
                )
            }
        }
    }

    private static func entries(_ items: [JSONValue], _ errors: inout Refusals) -> [Entry] {
        var entries: [Entry] = []
        for (index, item) in items.enumerated() {
            let path = "entries[\(index)]"
            guard let object = item.objectValue else {
                errors.add(path, "must be {key, value}, not \(item.kind.noun)")
                continue
            }
            for key in object.keys where key != "key" && key != "value" {
                errors.add("\(path).\(key)", "is not a field of an entry", fix: "known fields: key, value")
            }
            guard let key = object["key"]?.stringValue else {
                errors.add("\(path).key", object["key"] == nil ? "is missing" : "must be a string")
                continue
            }
            guard let value = object["value"] else {
                errors.add("\(path).value", "is missing")
                continue
            }
            append(key, value, "\(path).value", to: &entries, &errors)
        }
        return entries
    }

    private static func entries(_ values: JSONObject, at path: String, _ errors: inout Refusals) -> [Entry] {
        var entries: [Entry] = []
        for member in values.members {
            append(member.key, member.value, "\(path).\(member.key)", to: &entries, &errors)
        }
        return entries
    }

    private static func append(
        _ key: String,
        _ value: JSONValue,
        _ path: String,
        to entries: inout [Entry],
        _ errors: inout Refusals
    ) {
        guard let text = value.stringValue else {
            // A number's text would not survive: 1.10 and 0123 come out differently from how they were written.
            errors.add(path, "must be a string, not \(value.kind.noun)", fix: "write the value in quotes")
            return
        }
        if entries.contains(where: { $0.key == key }) {
            errors.add(path, "the key '\(key)' is given twice", fix: "leave one of them out")
        }
        entries.append(Entry(key: key, value: text))
    }

    private static func checkEntries(_ entries: [Entry], _ errors: inout Refusals) {
        if entries.isEmpty { errors.add("entries", "must not be empty", fix: "give at least one key with a value") }
        if entries.count > entriesMax {
            errors.add("entries", "has \(entries.count) keys", fix: "use at most \(entriesMax)")
        }
        let bytes = entries.reduce(0) { $0 + $1.key.utf8.count + $1.value.utf8.count }
        if bytes > bytesMax { errors.add("entries", "is \(bytes) bytes large", fix: "use at most \(bytesMax)") }
        for entry in entries {
            let isUsable =
                (1...253).contains(entry.key.utf8.count) && entry.key != "." && entry.key != ".."
                && entry.key.utf8.allSatisfy { byte in
                    (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
                        || byte == 0x2D || byte == 0x2E || byte == 0x5F
                }
            if !isUsable {
                errors.add(
                    "entries",
                    "'\(entry.key.prefix(260))' is not a usable key",
                    fix: "use 1 to 253 letters, digits, '.', '_' or '-'"
                )
            }
        }
    }
}

/// The refused fields of one document.
private struct Refusals {
    let lines: [String: Int]
    var fields: [ServiceError.FieldError] = []

    init(lines: [String: Int]) {
        self.lines = lines
    }

    mutating func add(_ field: String, _ message: String, fix: String? = nil) {
        fields.append(ServiceError.FieldError(field: field, message: message, fix: fix, line: lines[field]))
    }

    func check(what: String) throws(ServiceError) {
        guard let first = fields.first else { return }
        throw ServiceError(
            .invalid,
            fields.count == 1 ? "\(first.field): \(first.message)" : "\(what) has \(fields.count) errors",
            fix: fields.count == 1 ? first.fix : nil,
            fields: fields
        )
    }
}
