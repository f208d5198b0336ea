// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials

/// A topic's own file, kept twice: `topic.json` and `topic.copy.json`.
///
/// Format: docs/formats/topic-file.md.
struct TopicFile: Codable, Equatable {
    static let name = "topic.json"
    static let copyName = "topic.copy.json"
    /// An engine that knows version 1 only would delete by age what is to be compacted.
    static let currentVersion = 2

    var version = 1
    var name: String
    var id: UUID
    var partitions: Int32
    var settings: TopicSettings

    var description: TopicDescription {
        TopicDescription(name: name, id: id, partitions: partitions, settings: settings)
    }

    /// Writes both copies; durable on return.
    func store(in directory: String) throws(EventLogError) {
        var file = self
        file.version = settings.compaction == nil ? 1 : Self.currentVersion
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        guard let data = try? encoder.encode(file) else {
            throw EventLogError(.inputOutput, "the settings of topic \(name) cannot be encoded", topic: name)
        }
        try Disk.replace("\(directory)/\(Self.name)", with: Array(data))
        try Disk.replace("\(directory)/\(Self.copyName)", with: Array(data))
    }

    /// Reads the file, or its copy; says in `problem` what was wrong with what could not be used.
    ///
    /// - Throws: `.unsupportedFormat` for a newer version.
    static func load(from directory: String) throws(EventLogError) -> (file: TopicFile?, problem: String?) {
        var problem: String?
        for file in [Self.name, Self.copyName] {
            let path = "\(directory)/\(file)"
            do throws(EventLogError) {
                let data = Data(try Disk.readWhole(path))
                if let probe = try? JSONDecoder().decode(VersionProbe.self, from: data), probe.version > currentVersion
                {
                    throw EventLogError(
                        .unsupportedFormat,
                        "\(path) has version \(probe.version), this engine reads up to \(currentVersion); start the newer engine",
                        path: path
                    )
                }
                if let decoded = try? JSONDecoder().decode(TopicFile.self, from: data), decoded.partitions > 0,
                    (try? decoded.settings.validate()) != nil
                {
                    return (decoded, problem)
                }
                problem = problem ?? "\(file) cannot be understood"
            } catch {
                if error.code == .unsupportedFormat { throw error }
                problem = problem ?? error.message
            }
        }
        return (nil, problem)
    }

    private struct VersionProbe: Decodable {
        let version: Int
    }
}
