// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation

/// The client's configuration file: TOML with one `key = "text"` a line, kept as it is apart from the keys set.
package struct ConfigurationFile: Sendable {
    /// One setting of the file.
    package struct Key: Sendable {
        package let name: String
        package let explanation: String
    }

    /// Every key the file may have.
    package static let keys = [
        Key(name: "server", explanation: "address of the engine"),
        Key(name: "token", explanation: "bearer token"),
        Key(name: "output", explanation: "human, json or yaml"),
    ]

    package private(set) var lines: [String]

    /// An empty file.
    package init() { lines = ["# Settings of the martlet command line."] }

    /// Reads the text of a file.
    package init(text: String) throws {
        lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        if lines.last == "" { lines.removeLast() }
        for (index, line) in lines.enumerated() where !Self.isBlank(line) {
            guard let (key, _) = Self.parse(line) else {
                throw CommandFailure(.refused, "line \(index + 1): '\(line)' is not of the form key = \"text\"")
            }
            guard Self.keys.contains(where: { $0.name == key }) else {
                throw CommandFailure(
                    .refused,
                    "line \(index + 1): unknown key '\(key)'",
                    fix: "known keys: \(Self.keys.map(\.name).joined(separator: ", "))"
                )
            }
        }
    }

    /// Where the file is: `MARTLET_CONFIG`, or `.martlet/config.toml` in the home directory.
    package static func path(environment: [String: String]) -> String {
        if let path = environment["MARTLET_CONFIG"].nonEmpty { return path }
        return (environment["HOME"].nonEmpty ?? NSHomeDirectory()) + "/.martlet/config.toml"
    }

    /// The file as it is on disk; an absent file is an empty one, an unreadable one an error.
    package static func load(environment: [String: String]) throws -> Self {
        let path = path(environment: environment)
        guard FileManager.default.fileExists(atPath: path) else { return Self() }
        do {
            return try Self(text: try String(contentsOfFile: path, encoding: .utf8))
        } catch let failure as CommandFailure {
            throw CommandFailure(
                failure.status,
                "configuration file \(path), \(failure.message)",
                fix: failure.fix ?? "correct it, or write a new one with: martlet config init --force"
            )
        } catch {
            throw CommandFailure(.failure, "cannot read the configuration file \(path): \(error.localizedDescription)")
        }
    }

    /// Writes the file with mode 0600, replacing the old one in one step.
    package func save(environment: [String: String]) throws {
        let path = Self.path(environment: environment)
        let folder = (path as NSString).deletingLastPathComponent
        let temporary = path + ".\(getpid()).tmp"
        do {
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            let made = FileManager.default.createFile(
                atPath: temporary,
                contents: Data((lines.joined(separator: "\n") + "\n").utf8),
                attributes: [.posixPermissions: 0o600]
            )
            guard made, rename(temporary, path) == 0 else { throw CocoaError(.fileWriteUnknown) }
        } catch {
            unlink(temporary)
            throw CommandFailure(
                .failure,
                "cannot write the configuration file \(path)",
                fix: "check that the folder can be written, or set MARTLET_CONFIG to another path"
            )
        }
    }

    /// The value of a key; setting nil removes its line.
    package subscript(key: String) -> String? {
        get {
            for line in lines {
                if let (name, value) = Self.parse(line), name == key { return value }
            }
            return nil
        }
        set {
            let index = lines.firstIndex { Self.parse($0)?.0 == key }
            let line = newValue.map { "\(key) = \(Self.quote($0))" }
            switch (index, line) {
            case (let index?, let line?): lines[index] = line
            case (let index?, nil): lines.remove(at: index)
            case (nil, let line?): lines.append(line)
            case (nil, nil): break
            }
        }
    }

    private static func isBlank(_ line: String) -> Bool {
        let text = line.trimmingCharacters(in: .whitespaces)
        return text.isEmpty || text.hasPrefix("#")
    }

    private static func parse(_ line: String) -> (String, String)? {
        guard !isBlank(line), let equals = line.firstIndex(of: "=") else { return nil }
        let key = line[..<equals].trimmingCharacters(in: .whitespaces)
        let text = line[line.index(after: equals)...].trimmingCharacters(in: .whitespaces)
        guard !key.isEmpty, let first = text.first, first == "\"" || first == "'" else { return nil }
        var value = ""
        var isEscaped = false
        for (offset, character) in text.dropFirst().enumerated() {
            if isEscaped {
                switch character {
                case "n": value.append("\n")
                case "t": value.append("\t")
                default: value.append(character)
                }
                isEscaped = false
            } else if character == "\\", first == "\"" {
                isEscaped = true
            } else if character == first {
                let rest = text.dropFirst(offset + 2).trimmingCharacters(in: .whitespaces)
                return rest.isEmpty || rest.hasPrefix("#") ? (key, value) : nil
            } else {
                value.append(character)
            }
        }
        return nil
    }

    private static func quote(_ value: String) -> String {
        var text = "\""
        for character in value {
            switch character {
            case "\"": text += "\\\""
            case "\\": text += "\\\\"
            case "\n": text += "\\n"
            case "\t": text += "\\t"
            default: text.append(character)
            }
        }
        return text + "\""
    }
}
