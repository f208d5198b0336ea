// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore

/// Rows of an answer, for people and programs.
struct SQLAnswer: Sendable {
    /// What stands for NULL in tables.
    static let null = "NULL"

    /// A column of the answer.
    struct Column: Sendable {
        var name: String
        /// SQL type as DuckDB writes it.
        var type: String

        init(name: String, type: String) {
            self.name = name
            self.type = type
        }

        var isNumber: Bool {
            let names = ["INT", "DOUBLE", "FLOAT", "REAL", "DECIMAL", "NUMERIC"]
            return names.contains { type.uppercased().contains($0) } && !type.contains("[") && !type.contains("(STRUCT")
                && !type.uppercased().hasPrefix("INTERVAL") && !type.uppercased().hasPrefix("STRUCT")
                && !type.uppercased().hasPrefix("MAP")
        }
    }

    var columns: [Column]
    var rows: [[JSONValue]]

    init(columns: [Column], rows: [[JSONValue]]) {
        self.columns = columns
        self.rows = rows
    }

    /// A plan of EXPLAIN, which is a drawing and not a table; nil for anything else.
    var plan: String? {
        guard columns.map(\.name) == ["explain_key", "explain_value"] else { return nil }
        return rows.compactMap { $0.last?.stringValue }.joined(separator: "\n")
    }

    /// A table with numbers at the right; NULL is `NULL`, nested values are JSON.
    func table() -> TextTable {
        TextTable(
            columns: columns.map { .init($0.name, isRight: $0.isNumber, isFlexible: !$0.isNumber) },
            rows: rows.map { $0.map(Self.text) }
        )
    }

    /// One line a value, with the column's name before it.
    func lines(firstRow: Int = 1) -> String {
        let width = columns.map { DisplayWidth.of($0.name) }.max() ?? 0
        var text = ""
        for (index, row) in rows.enumerated() {
            text += "-- row \(firstRow + index)\n"
            for (column, value) in zip(columns, row) {
                let name = DisplayWidth.pad(Sanitizer.clean(column.name), to: width, right: true)
                text += "\(name) = \(Sanitizer.clean(Self.text(value)))\n"
            }
        }
        return text
    }

    /// One object a row; a column name that comes again gets a number.
    func objects() -> JSONValue {
        var names: [String] = []
        for column in columns {
            var name = column.name
            var count = 1
            while names.contains(name) {
                count += 1
                name = "\(column.name)_\(count)"
            }
            names.append(name)
        }
        return .array(
            rows.map { row in
                .object(JSONObject(members: zip(names, row).map { JSONObject.Member(key: $0.0, value: $0.1) }))
            }
        )
    }

    /// Rows as CSV (RFC 4180): NULL is empty, an empty text is `""`.
    func csv(withTitles: Bool) -> [UInt8] {
        var bytes: [UInt8] = []
        if withTitles { Self.appendCSV(columns.map { .string($0.name) }, to: &bytes) }
        for row in rows { Self.appendCSV(row, to: &bytes) }
        return bytes
    }

    private static func text(_ value: JSONValue) -> String {
        switch value {
        case .null: null
        case .string(let text): text
        default: value.text
        }
    }

    private static func appendCSV(_ row: [JSONValue], to bytes: inout [UInt8]) {
        for (index, value) in row.enumerated() {
            if index > 0 { bytes.append(0x2C) }
            switch value {
            case .null: break
            case .string(let text): appendCSV(text, to: &bytes)
            case .array, .object: appendCSV(value.text, to: &bytes)
            case .bool, .int, .double, .number: JSONWriter.append(value, to: &bytes)
            }
        }
        bytes += [0x0D, 0x0A]
    }

    private static func appendCSV(_ text: String, to bytes: inout [UInt8]) {
        let needsQuotes =
            text.isEmpty || text.utf8.contains { $0 == 0x22 || $0 == 0x2C || $0 == 0x0A || $0 == 0x0D }
            || text.utf8.first == 0x20 || text.utf8.last == 0x20
        guard needsQuotes else {
            bytes += text.utf8
            return
        }
        bytes.append(0x22)
        for byte in text.utf8 {
            if byte == 0x22 { bytes.append(0x22) }
            bytes.append(byte)
        }
        bytes.append(0x22)
    }
}
