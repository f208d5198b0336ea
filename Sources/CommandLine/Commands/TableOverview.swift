// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore

/// A table for people: first how it fares, then what it is set to, then its columns.
struct TableOverview {
    private let item: JSONValue

    init(_ item: JSONValue) {
        self.item = item
    }

    private var name: String { item["name"]?.stringValue ?? "-" }
    private var followsTopic: Bool { item["topic"]?.stringValue != nil }

    /// Everything, with the columns as a table.
    func text(_ client: EngineClient) -> String {
        let table = TextTable(
            columns: [.init("Column", isFlexible: true), .init("Type", isFlexible: true), .init("Note")],
            rows: (item["columns"]?.arrayValue ?? []).map { column in
                [column["name"]?.stringValue ?? "-", column["type"]?.stringValue ?? "-", note(on: column)]
            }
        )
        return fields().text(style: client.style) + "\n" + table.text(width: client.width, style: client.style)
    }

    /// All but the columns.
    func fields() -> FieldList {
        var list = FieldList()
        list.add("Name", name)
        guard followsTopic else {
            list.add("Kind", "keyed, written by functions")
            list.add("Rows", ResourceDisplay.text(item["rows"]))
            return list
        }
        list.add("Kind", kind)
        list.add("State", item["state"]?.stringValue)
        list.add("Reason", item["reason"]?.stringValue)
        list.add("Lag", Self.lag(item, isLong: true))
        list.add("Last Commit", lastCommit)
        list.add("Rows", rows)
        list.add("Rejected", rejected)
        list.add("Files", files)
        addSettings(to: &list)
        list.add("Location", item["location"]?.stringValue)
        list.add("Description", item["description"]?.stringValue)
        list.add("Tags", ResourceDisplay.text(item["tags"]))
        list.add("GUID", item["guid"]?.stringValue)
        list.add("Created At", Quantity.time(item["created_at"]?.stringValue))
        list.add("Updated At", Quantity.time(item["updated_at"]?.stringValue))
        return list
    }

    /// What deleting it removes, as part of a question.
    var whatGoes: String {
        let rows = Self.count(item["rows"]?.intValue ?? 0, "row")
        guard let topic = item["topic"]?.stringValue else { return "table \(name) with \(rows)" }
        var parts = [rows]
        if let files = item["files"]?.intValue {
            parts.append("\(Self.count(files, "file")) (\(Quantity.size(bytes: item["bytes"]?.intValue ?? 0)))")
        }
        if let rejected = item["rejected_rows"]?.intValue, rejected > 0 { parts.append(Self.count(rejected, "reject")) }
        if let commits = item["commits"]?.intValue, commits > 0 {
            parts.append("its history of \(Self.count(commits, "commit"))")
        }
        return "table \(name) with \(parts.joined(separator: ", ")) (topic \(topic) stays)"
    }

    /// What waits in the topic; nil for a table that follows none.
    static func lag(_ item: JSONValue, isLong: Bool = false) -> String? {
        guard let records = item["lag_records"]?.intValue else { return nil }
        guard records > 0 else { return isLong ? "none" : "0" }
        let count = isLong ? Self.count(records, "record") : "\(records)"
        guard let seconds = item["lag_seconds"]?.doubleValue, seconds >= 0, seconds < 1e9 else { return count }
        let age = Quantity.duration(microseconds: Int64(seconds * 1_000_000))
        return isLong ? "\(count), the oldest \(age) old" : "\(count) (\(age))"
    }

    /// A table's name as SQL needs it.
    static func sqlName(_ name: String) -> String {
        let isPlain = name.utf8.allSatisfy { byte in
            (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte) || byte == 0x5F
        }
        return isPlain ? name : "\"\(name.replacing("\"", with: "\"\""))\""
    }

    /// The statement that shows what a table's rejects say, for a shell.
    static func showRejects(_ name: String) -> String {
        "martlet sql 'select _timestamp, reason, value from \(sqlName(name + "__rejected")) order by rejected_at desc limit 10'"
    }

    /// `1 row`, `2 rows`.
    static func count(_ number: Int64, _ noun: String) -> String {
        "\(number) \(noun)\(number == 1 ? "" : "s")"
    }

    /// Whole days where it is some, else the shortest.
    static func span(milliseconds: Int64) -> String {
        if milliseconds > 0, milliseconds % 86_400_000 == 0 { return "\(milliseconds / 86_400_000) d" }
        let (micros, isTooLong) = milliseconds.multipliedReportingOverflow(by: 1000)
        return isTooLong ? "\(milliseconds) ms" : Quantity.duration(microseconds: micros)
    }

    private var kind: String {
        let topic = item["topic"]?.stringValue ?? ""
        let how = item["kind"]?.stringValue == "keyed" ? "keyed, one row a key" : "append, one row a record"
        return "\(how) of topic \(topic), read as \(item["format"]?.stringValue ?? "json")"
    }

    private var lastCommit: String? {
        guard let commit = item["last_commit"], let number = commit["number"]?.intValue else {
            return item["commits"] == nil ? nil : "none yet"
        }
        let time = commit["time"]?.stringValue
        var text = "\(number) at \(Quantity.time(time) ?? "-")"
        if let time, let micros = Timestamp.parseMicroseconds(time) {
            let age = Timestamp.nowMicroseconds() - micros
            if age >= 0 { text += ", \(Quantity.duration(microseconds: age)) ago" }
        }
        return text
    }

    private var rows: String? {
        guard let rows = item["rows"]?.intValue else { return nil }
        guard let fresh = item["fresh_rows"]?.intValue, fresh > 0 else { return "\(rows)" }
        return "\(rows), of which \(fresh) \(fresh == 1 ? "waits" : "wait") for the next commit"
    }

    private var rejected: String? {
        guard let rejected = item["rejected_rows"]?.intValue else { return nil }
        guard rejected > 0 else { return "none" }
        return "\(Self.count(rejected, "record")); see why with:\n\(Self.showRejects(name))"
    }

    private var files: String? {
        guard let files = item["files"]?.intValue else { return nil }
        let size = item["bytes"]?.intValue.map { ", \(Quantity.size(bytes: $0))" } ?? ""
        return "\(files)\(size)"
    }

    private func addSettings(to list: inout FieldList) {
        guard let settings = item["settings"] else { return }
        let isKeyed = item["kind"]?.stringValue == "keyed"
        if !isKeyed, let seconds = settings["commit_seconds"]?.intValue, let bytes = settings["commit_bytes"]?.intValue
        {
            let time = Quantity.duration(microseconds: seconds.multipliedReportingOverflow(by: 1_000_000).partialValue)
            list.add("Commits", "every \(time), or at \(Quantity.size(bytes: bytes))")
        }
        if isKeyed {
            list.add("Key", ResourceDisplay.text(item["key"]))
            if let rule = settings["delete_rule"], let field = rule["field"]?.stringValue {
                list.add("Deletes When", "\(field) = \(rule["value"]?.stringValue ?? ""), or without a value")
            } else {
                list.add("Deletes When", "a record has no value")
            }
        } else {
            list.add("Partitions", ResourceDisplay.text(item["partition_by"]) ?? "none")
            list.add("Retention", retention(settings))
            if let seconds = settings["history_seconds"]?.intValue {
                let (milliseconds, isTooLong) = seconds.multipliedReportingOverflow(by: 1000)
                list.add("History", isTooLong ? "\(seconds) s" : Self.span(milliseconds: milliseconds))
            }
        }
        if item["format"]?.stringValue != "raw" {
            list.add("Unknown Fields", settings["unknown_fields"]?.stringValue)
            list.add("Schema Version", ResourceDisplay.text(item["schema_version"]))
        }
        list.add("Started At", settings["start"]?.stringValue)
    }

    private func retention(_ settings: JSONValue) -> String {
        var parts: [String] = []
        if let milliseconds = settings["retention_milliseconds"]?.intValue {
            parts.append(Self.span(milliseconds: milliseconds))
        }
        if let bytes = settings["retention_bytes"]?.intValue { parts.append(Quantity.size(bytes: bytes)) }
        return parts.isEmpty ? "for ever" : parts.joined(separator: ", ")
    }

    private func note(on column: JSONValue) -> String {
        if column["is_key"]?.boolValue == true { return "key" }
        if column["is_system"]?.boolValue == true { return "system" }
        let declared = item["settings"]?["columns"]?.arrayValue ?? []
        let name = column["name"]?.stringValue?.lowercased()
        return declared.contains { $0["name"]?.stringValue?.lowercased() == name } ? "declared" : ""
    }
}
