// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

extension PipelineManifest {
    /// A table of a topic as a manifest declares it: what it says and no more, so that what it leaves out stays as it is.
    ///
    /// The fields are those of `tables create`; a limit of -1 is none.
    package struct Table: Codable, Sendable, Equatable {
        package var name: String
        package var topic: String
        package var description: String?
        package var tags: [String]?
        package var format: TableSpec.Format?
        package var columns: [TableSpec.Column]?
        package var unknownFields: TableSpec.UnknownFields?
        package var key: [String]?
        package var deleteRule: TableSpec.DeleteRule?
        package var partitionBy: [String]?
        package var commitSeconds: Int?
        package var commitBytes: Int64?
        package var retentionMilliseconds: Int64?
        package var retentionBytes: Int64?
        package var historySeconds: Int64?
        package var start: TableSpec.Start?

        package init(name: String, topic: String) {
            self.name = name
            self.topic = topic
        }

        /// The document that `tables create` and `tables update` would be given.
        package var document: JSONValue {
            var object = JSONObject(members: [])
            func set(_ field: String, _ value: JSONValue?) { if let value { object[field] = value } }
            func list(_ texts: [String]?) -> JSONValue? { texts.map { .array($0.map { .string($0) }) } }
            set("name", .string(name))
            set("topic", .string(topic))
            set("description", description.map { .string($0) })
            set("tags", list(tags))
            set("format", format.map { .string($0.rawValue) })
            set("columns", columns.map { .array($0.map { ["name": .string($0.name), "type": .string($0.type)] }) })
            set("unknown_fields", unknownFields.map { .string($0.rawValue) })
            set("key", list(key))
            set("delete_rule", deleteRule.map { ["field": .string($0.field), "value": .string($0.value)] })
            set("partition_by", list(partitionBy))
            set("commit_seconds", commitSeconds.map { .int(Int64($0)) })
            set("commit_bytes", commitBytes.map { .int($0) })
            set("retention_milliseconds", retentionMilliseconds.map { .int($0) })
            set("retention_bytes", retentionBytes.map { .int($0) })
            set("history_seconds", historySeconds.map { .int($0) })
            set("start", start.map { .string($0.rawValue) })
            return .object(object)
        }
    }
}
