// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Documents
import MartletCore

/// The settings that a table's document has; nil where it says nothing of one.
struct TableFields {
    var format: TableSpec.Format?
    /// With the path of each, for messages.
    var columns: [(column: TableSpec.Column, path: String)]?
    var unknownFields: TableSpec.UnknownFields?
    var key: [String]?
    var deleteRule: TableSpec.DeleteRule?
    var partitionBy: [String]?
    var commitSeconds: Int?
    var commitBytes: Int64?
    /// The inner nil is for ever.
    var retentionMilliseconds: Int64??
    /// The inner nil is no limit.
    var retentionBytes: Int64??
    var historySeconds: Int64?
    var start: TableSpec.Start?
    /// The settings among them, by the name they were read under.
    private(set) var given: Set<String> = []

    private let places: [DocumentReader]

    /// Reads them all, at the top and under `settings`.
    init(_ reader: DocumentReader) {
        let settings = reader.object("settings", what: "settings")
        places = [reader, settings].compactMap { $0 }
        format = first("format", of: TableSpec.Format.self)
        columns = first("columns") { Self.columns($0) }
        unknownFields = first("unknown_fields", aliases: ["unknown"], of: TableSpec.UnknownFields.self)
        key = first("key") { $0.strings("key", aliases: ["key_columns"]) }
        deleteRule = first("delete_rule") { Self.deleteRule($0) }
        partitionBy = first("partition_by") { $0.strings("partition_by", aliases: ["partitions"]) }
        start = first("start", of: TableSpec.Start.self)
        readAmounts()
    }

    /// Puts what was read into a spec.
    func fill(_ spec: inout TableSpec) {
        if let format { spec.format = format }
        if let columns { spec.columns = columns.map(\.column) }
        if let unknownFields { spec.unknownFields = unknownFields }
        if let key { spec.key = key }
        if let deleteRule { spec.deleteRule = deleteRule }
        if let partitionBy { spec.partitionBy = Self.normal(partitionBy) }
        if let commitSeconds { spec.commitSeconds = commitSeconds }
        if let commitBytes { spec.commitBytes = commitBytes }
        if let retentionMilliseconds { spec.retentionMilliseconds = retentionMilliseconds }
        if let retentionBytes { spec.retentionBytes = retentionBytes }
        if let historySeconds { spec.historySeconds = historySeconds }
        if let start { spec.start = start }
        // Rows of a keyed table are not in files.
        if !spec.key.isEmpty, partitionBy == nil { spec.partitionBy = [] }
    }

    /// Only those that can be changed later, and without columns, which are added to those there are.
    var settings: TableFields {
        var settings = self
        settings.format = nil
        settings.columns = nil
        settings.key = nil
        settings.partitionBy = nil
        settings.start = nil
        return settings
    }

    /// `hour` and `day` in lower case, `none` as nothing.
    static func normal(_ partitions: [String]) -> [String] {
        if partitions.count == 1, partitions[0].lowercased() == "none" { return [] }
        return partitions.map { ["hour", "day"].contains($0.lowercased()) ? $0.lowercased() : $0 }
    }

    private mutating func readAmounts() {
        let day: Int64 = 86_400_000
        commitSeconds = seconds(
            "commit_seconds",
            ["commit_every", "commit_interval"],
            in: 1...86_400,
            "10s or 1m, from 1s to 24h"
        )
        .map { Int($0) }
        commitBytes = first("commit_bytes") {
            Self.amount(
                $0,
                "commit_bytes",
                ["commit_size"],
                in: (64 << 10)...(1 << 30),
                "a size such as 64MiB, from 64KiB to 1GiB",
                DocumentQuantity.bytes
            )
        }
        historySeconds = seconds("history_seconds", ["history"], in: 0...(3650 * 86_400), "1d or 12h, from 0s to 3650d")
        retentionBytes = first("retention_bytes") { place in
            Self.limit(
                place,
                "retention_bytes",
                ["retention_size"],
                in: (1 << 20)...(1 << 60),
                "a size such as 10GiB, at least 1MiB, or 'none'",
                DocumentQuantity.bytes
            )
        }
        let exact: Int64?? = first("retention") { place in
            Self.limit(
                place,
                "retention_milliseconds",
                [],
                in: 60_000...(36_500 * day),
                "milliseconds, at least 60000, or -1 for ever",
                { DocumentReader.integer($0).map { Int64($0) } }
            )
        }
        let spelled: Int64?? = first("retention") { place in
            Self.limit(
                place,
                "retention",
                [],
                in: 60_000...(36_500 * day),
                "a time such as 30d or 12h, at least 1m, or 'forever'",
                { DocumentQuantity.milliseconds($0).map { Int64($0) } }
            )
        }
        if let exact, let spelled, exact != spelled {
            places.first?.fail(
                "retention",
                "'retention' and 'retention_milliseconds' mean the same and differ",
                fix: "keep one of them"
            )
        }
        retentionMilliseconds = spelled ?? exact
    }

    private mutating func seconds(
        _ name: String,
        _ aliases: [String],
        in range: ClosedRange<Int64>,
        _ wanted: String
    ) -> Int64? {
        first(name) { place in
            Self.amount(place, name, aliases, in: range, "whole seconds such as \(wanted)") { value in
                DocumentQuantity.milliseconds(value).flatMap { $0 % 1000 == 0 ? Int64($0 / 1000) : nil }
            }
        }
    }

    /// The value of the first place that has one; all places are read, so that all are checked.
    private mutating func first<T>(_ name: String, _ read: (DocumentReader) -> T?) -> T? {
        let found = places.compactMap(read)
        if !found.isEmpty { given.insert(name) }
        return found.first
    }

    private mutating func first<Choice: RawRepresentable & CaseIterable>(
        _ name: String,
        aliases: [String] = [],
        of type: Choice.Type
    ) -> Choice? where Choice.RawValue == String {
        first(name) { place in
            place.choice(name, aliases: aliases, of: type.allCases.map(\.rawValue)).flatMap { type.init(rawValue: $0) }
        }
    }

    private static func amount(
        _ place: DocumentReader,
        _ name: String,
        _ aliases: [String],
        in range: ClosedRange<Int64>,
        _ wanted: String,
        _ convert: (JSONValue) -> Int64?
    ) -> Int64? {
        guard let (path, value) = place.value(name, aliases: aliases) else { return nil }
        guard let amount = convert(value), range.contains(amount) else {
            place.fail(at: path, "\(DocumentReader.show(value)) is not \(wanted)", fix: "write \(wanted)")
            return nil
        }
        return amount
    }

    /// As ``amount(_:_:_:in:_:_:)``, where -1 and words like `forever` are no limit.
    private static func limit(
        _ place: DocumentReader,
        _ name: String,
        _ aliases: [String],
        in range: ClosedRange<Int64>,
        _ wanted: String,
        _ convert: (JSONValue) -> Int64?
    ) -> Int64?? {
        guard let (path, value) = place.value(name, aliases: aliases) else { return nil }
        let text = DocumentReader.text(value)?.lowercased() ?? ""
        if ["-1", "forever", "none", "unlimited"].contains(text) { return .some(nil) }
        guard let amount = convert(value), range.contains(amount) else {
            place.fail(at: path, "\(DocumentReader.show(value)) is not \(wanted)", fix: "write \(wanted)")
            return nil
        }
        return .some(amount)
    }
}

extension TableFields {
    /// A list of `{name, type}`, or one mapping of names to types.
    ///
    /// The list `tables get` prints at the top has all columns, with the inferred ones; the declared ones are in its settings.
    private static func columns(_ place: DocumentReader) -> [(column: TableSpec.Column, path: String)]? {
        guard let (path, value) = place.value("columns") else { return nil }
        if value.arrayValue?.contains(where: { $0["is_system"] != nil }) == true { return nil }
        var columns: [(column: TableSpec.Column, path: String)] = []
        switch value {
        case .object(let object):
            for member in object.members {
                add(member.key, DocumentReader.text(member.value) ?? "", "\(path).\(member.key)", place, &columns)
            }
        case .array(let elements):
            for (index, element) in elements.enumerated() {
                let entry = place.child(element, path: "\(path)[\(index)]", what: "a column")
                let (name, type) = (entry.string("name", required: true), entry.string("type", required: true))
                if let name, let type { add(name, type, entry.path, place, &columns) }
            }
        default:
            place.fail(
                at: path,
                "\(DocumentReader.show(value)) is not a list of columns",
                fix: "write [{name: price, type: DOUBLE}] or {price: DOUBLE}"
            )
        }
        return columns
    }

    private static func add(
        _ name: String,
        _ type: String,
        _ path: String,
        _ place: DocumentReader,
        _ columns: inout [(column: TableSpec.Column, path: String)]
    ) {
        guard let known = ColumnTypeName(type) else {
            place.fail(
                at: path,
                "'\(type.prefix(80))' is no type that column '\(name.prefix(140))' can have",
                fix: ColumnTypeName.advice(type)
            )
            return
        }
        columns.append((TableSpec.Column(name: name, type: known.sql), path))
    }

    /// `{field, value}`, or the text `field=value`.
    private static func deleteRule(_ place: DocumentReader) -> TableSpec.DeleteRule? {
        guard let (path, value) = place.value("delete_rule", aliases: ["delete_when"]) else { return nil }
        if case .object = value {
            let rule = place.child(value, path: path, what: "a delete rule")
            let (field, text) = (rule.string("field", required: true), rule.string("value", required: true))
            guard let field, let text else { return nil }
            return TableSpec.DeleteRule(field: field, value: text)
        }
        let parts = DocumentReader.text(value)?.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        guard let parts, parts.count == 2, !parts[0].isEmpty else {
            place.fail(
                at: path,
                "\(DocumentReader.show(value)) does not say which value of which field deletes",
                fix: "write {field: op, value: delete} or op=delete"
            )
            return nil
        }
        return TableSpec.DeleteRule(field: String(parts[0]), value: String(parts[1]))
    }
}
