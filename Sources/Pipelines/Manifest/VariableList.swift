// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Documents
import MartletCore

/// Environment variables in the forms they are written: a list of name and value, of `NAME=value`, of one-entry mappings, or a mapping.
enum VariableList {
    /// Longest value the kernel passes to a process, in bytes, with its name.
    static let bytesMax = 128 << 10

    static func read(_ reader: DocumentReader) -> [(variable: PipelineManifest.EnvironmentVariable, path: String)] {
        guard let (path, value) = reader.value("environment_variables", aliases: ["env", "envs", "environment"]) else {
            return []
        }
        var found: [(variable: PipelineManifest.EnvironmentVariable, path: String)] = []
        func add(_ name: String, _ value: JSONValue?, _ path: String) {
            guard let variable = check(name, value ?? .null, path, reader) else { return }
            found.append((variable, path))
        }
        switch value {
        case .object(let object):
            for member in object.members.prefix(PipelineManifestReader.entriesMax) {
                add(member.key, member.value, "\(path).\(member.key)")
            }
        case .array(let elements):
            for (index, element) in elements.prefix(PipelineManifestReader.entriesMax).enumerated() {
                readEntry(element, "\(path)[\(index)]", reader, add)
            }
        default:
            reader.fail(at: path, "\(DocumentReader.show(value)) is not a list of variables", fix: form)
        }
        let count = value.arrayValue?.count ?? value.objectValue?.count ?? 0
        if count > PipelineManifestReader.entriesMax {
            reader.fail(at: path, "\(count) variables", fix: "write at most \(PipelineManifestReader.entriesMax)")
        }
        return found
    }

    private static func readEntry(
        _ element: JSONValue,
        _ path: String,
        _ reader: DocumentReader,
        _ add: (String, JSONValue?, String) -> Void
    ) {
        switch element {
        case .string(let text):
            guard let cut = text.firstIndex(of: "=") else { break }
            add(String(text[..<cut]), .string(String(text[text.index(after: cut)...])), path)
            return
        case .object(let object) where object["name"] != nil || object["key"] != nil:
            let entry = reader.child(element, path: path, what: "a variable")
            let name = entry.string("name", aliases: ["key"], required: true)
            let value = entry.value("value")
            if let name { add(name, value?.value, path) }
            return
        case .object(let object) where object.count == 1:
            for member in object.members { add(member.key, member.value, path) }
            return
        default: break
        }
        reader.fail(at: path, "\(DocumentReader.show(element)) is not a variable", fix: form)
    }

    private static func check(
        _ name: String,
        _ value: JSONValue,
        _ path: String,
        _ reader: DocumentReader
    ) -> PipelineManifest.EnvironmentVariable? {
        let isNameByte = { (byte: UInt8) in
            (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte) || byte == 0x5F
                || byte == 0x2D || byte == 0x2E
        }
        guard let first = name.utf8.first, !(0x30...0x39).contains(first), name.utf8.allSatisfy(isNameByte) else {
            reader.fail(
                at: path,
                "'\(name.prefix(80))' cannot name a variable",
                fix: "use letters, digits, '_', '-' and '.', not starting with a digit"
            )
            return nil
        }
        guard let text = value == .null ? "" : DocumentReader.text(value) else {
            reader.fail(at: path, "the value of '\(name)' is not text", fix: "write one text; quote JSON")
            return nil
        }
        guard !text.utf8.contains(0) else {
            reader.fail(
                at: path,
                "the value of '\(name)' contains a zero byte",
                fix: "leave it out, or keep it in a secret"
            )
            return nil
        }
        guard name.utf8.count + text.utf8.count < bytesMax - 2 else {
            reader.fail(
                at: path,
                "the value of '\(name)' has \(text.utf8.count) bytes",
                fix: "write at most \(bytesMax >> 10) KiB; keep larger values in a secret or a file"
            )
            return nil
        }
        return .init(name: name, value: text)
    }

    private static let form = "write entries of {name: NAME, value: text}, or a mapping NAME: text"
}
