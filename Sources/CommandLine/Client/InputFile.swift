// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore

/// A document from a file, standard input or the command line itself.
struct InputFile: Sendable {
    /// How messages call it.
    let name: String
    let bytes: [UInt8]

    init(name: String, bytes: [UInt8]) {
        self.name = name
        self.bytes = bytes
    }

    /// Reads what `argument` stands for: `FILE`, `@FILE`, `-` for standard input, or JSON text when `allowsInline`.
    init(_ argument: String, session: Session, allowsInline: Bool = false) throws {
        if allowsInline, let first = argument.first(where: { !$0.isWhitespace }), first == "{" || first == "[" {
            self.init(name: "the JSON on the command line", bytes: Array(argument.utf8))
            return
        }
        let path = argument.hasPrefix("@") ? String(argument.dropFirst()) : argument
        if path == "-" {
            self.init(name: "standard input", bytes: try session.readInput())
            return
        }
        self.init(name: path, bytes: try Self.read(path))
    }

    private static func read(_ path: String) throws -> [UInt8] {
        guard !path.isEmpty else { throw CommandFailure.usage("a file name is empty") }
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            let code = errno
            throw CommandFailure(
                code == ENOENT ? .notFound : .failure,
                "cannot read \(path): \(String(cString: strerror(code)))",
                fix: code == ENOENT ? "correct the path; it is looked for from the current folder" : nil
            )
        }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = Foundation.read(descriptor, &chunk, chunk.count)
            if count == 0 { return bytes }
            guard count > 0 else {
                if errno == EINTR { continue }
                throw CommandFailure(.failure, "cannot read \(path): \(String(cString: strerror(errno)))")
            }
            bytes += chunk[..<count]
            guard bytes.count <= 256 << 20 else { throw CommandFailure(.refused, "\(path) has more than 256 MiB") }
        }
    }

    /// The content type to send it with, by what it looks like.
    var contentType: String {
        let first = bytes.first { ![0x20, 0x09, 0x0A, 0x0D].contains($0) }
        guard first == 0x7B || first == 0x5B else { return "application/yaml" }
        return (try? JSONValue(parsing: bytes)) == nil && !name.hasSuffix(".json")  // Flow-style YAML begins like JSON.
            ? "application/yaml" : "application/json"
    }

    /// Other spellings of the field a flag sets, by its path, so that the flag replaces what the file says under any of them.
    private static let synonyms = [
        "source_bucket_name": ["source_bucket", "view", "bucket", "source_view"],
        "events": ["event"],
        "topic_name": ["topic"],
        "custom_extensions": ["custom_extension"],
        "config.name_filters.prefixes": ["name_prefix", "name_prefixes"],
        "config.name_filters.suffixes": ["name_suffix", "name_suffixes"],
        "config.tag_filters.prefixes": ["tag_prefix", "tag_prefixes"],
        "config.tag_filters.suffixes": ["tag_suffix", "tag_suffixes"],
        "config.cron_schedule": ["cron_schedule", "cron_expression", "cron", "schedule"],
        "config.time_zone": ["time_zone", "timezone", "tz"],
        "config.missed_fires": ["missed_fires"],
        "topic": ["topic_name"],
        "unknown_fields": ["unknown"],
        "delete_rule": ["delete_when"],
        "commit_seconds": ["commit_every", "commit_interval"],
        "commit_bytes": ["commit_size"],
        "retention": ["retention_milliseconds"],
        "retention_bytes": ["retention_size"],
        "history_seconds": ["history"],
    ]

    /// The document, read on this side.
    func value() throws -> JSONValue { try YAMLText.read(bytes, name: name) }

    /// The body to send: the file's own bytes, or, when `flags` say more, the file with the flags' fields in place of its own.
    func body(overlaid flags: JSONObject) throws -> APIRequest.Body {
        guard !flags.isEmpty else { return APIRequest.Body(bytes: bytes, contentType: contentType) }
        guard case .object(var object) = try value() else {
            throw CommandFailure(.refused, "\(name) is not a mapping of fields")
        }
        let spellings = Self.paths(flags, below: "").flatMap { Self.synonyms[$0] ?? [] }
        for spelling in spellings { object[spelling] = nil }
        if case .object(var config)? = object["config"] {
            for spelling in spellings { config[spelling] = nil }
            object["config"] = .object(config)
        }
        object = Self.merge(object, flags)
        return .json(.object(object))
    }

    private static func merge(_ file: JSONObject, _ flags: JSONObject) -> JSONObject {
        var merged = file
        for member in flags.members {
            if case .object(let ours) = member.value, case .object(let theirs)? = file[member.key] {
                merged[member.key] = .object(merge(theirs, ours))
            } else {
                merged[member.key] = member.value
            }
        }
        return merged
    }

    /// Dotted paths of every member at every depth.
    private static func paths(_ object: JSONObject, below path: String) -> [String] {
        object.members.flatMap { member in
            let place = path.isEmpty ? member.key : "\(path).\(member.key)"
            return [place] + (member.value.objectValue.map { paths($0, below: place) } ?? [])
        }
    }
}
