// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
import MartletCore

/// Reads the predicates out of a statement, with DuckDB's own parser.
struct PredicateReader {
    private typealias Comparison = QueryPredicates.Comparison

    private let sql: [UInt8]
    private let connection: Connection
    private let isOwnColumn: (String) -> Bool
    private var occurrences: [String: Int] = [:]
    private var found: [String: [Comparison]] = [:]

    /// What a statement asks of its tables; nothing where it is no query, nor EXPLAIN of one.
    ///
    /// Blocks.
    ///
    /// `isColumn` says of a word in lower case whether some table has a column of that name, which then means that column.
    static func read(
        _ statement: String,
        on connection: Connection,
        isColumn: @escaping (String) -> Bool = { _ in false }
    ) -> QueryPredicates {
        let sql = explained(statement)
        var reader = PredicateReader(sql: Array(sql.utf8), connection: connection, isOwnColumn: isColumn)
        guard let rows = try? connection.query("SELECT json_serialize_sql(?)", [.string(sql)]).rows(),
            let text = rows.first?.first?.text, let tree = try? JSONValue(parsing: text)
        else { return QueryPredicates() }
        for statement in tree["statements"]?.arrayValue ?? [] { reader.visit(statement) }
        // A table that is named twice is read once for both, so neither's conditions hold for it.
        return QueryPredicates(reader.found.filter { reader.occurrences[$0.key] == 1 })
    }

    /// The query of an EXPLAIN, which must read the files that the query reads; any other statement as it is.
    private static func explained(_ statement: String) -> String {
        var rest = statement.drop { $0.isWhitespace }
        for word in ["explain", "analyze"] where rest.lowercased().hasPrefix(word) {
            let next = rest.dropFirst(word.count)
            guard next.first?.isWhitespace == true else { break }
            rest = next.drop { $0.isWhitespace }
        }
        return String(rest)
    }

    private init(sql: [UInt8], connection: Connection, isOwnColumn: @escaping (String) -> Bool) {
        self.sql = sql
        self.connection = connection
        self.isOwnColumn = isOwnColumn
    }

    private mutating func visit(_ node: JSONValue) {
        if let items = node.arrayValue {
            for item in items { visit(item) }
            return
        }
        guard let object = node.objectValue else { return }
        if node["type"]?.stringValue == "BASE_TABLE", let name = node["table_name"]?.stringValue {
            occurrences[TableRegistry.key(name), default: 0] += 1
        }
        if node["type"]?.stringValue == "SELECT_NODE", let condition = node["where_clause"], condition != .null,
            let source = node["from_table"], node["sample"].map({ $0 == .null }) ?? true
        {
            note(condition, tables(in: source))
        }
        for member in object.members { visit(member.value) }
    }

    /// A table of a FROM clause, under the name columns are qualified with.
    private struct Source {
        let table: String
        let alias: String
    }

    /// The tables whose rows a WHERE clause filters one by one; empty where the FROM clause is another.
    private func tables(in source: JSONValue) -> [Source] {
        guard source["sample"].map({ $0 == .null }) ?? true else { return [] }
        switch source["type"]?.stringValue {
        case "BASE_TABLE":
            guard let name = source["table_name"]?.stringValue, source["at_clause"].map({ $0 == .null }) ?? true,
                source["column_name_alias"]?.arrayValue?.isEmpty ?? true
            else { return [] }
            let alias = source["alias"]?.stringValue ?? ""
            return [Source(table: TableRegistry.key(name), alias: (alias.isEmpty ? name : alias).lowercased())]
        case "JOIN":
            // An ASOF or positional join pairs rows by what else there is: leaving rows out would pair others.
            guard ["REGULAR", "CROSS"].contains(source["ref_type"]?.stringValue ?? ""),
                ["INNER", "LEFT", "RIGHT"].contains(source["join_type"]?.stringValue ?? ""),
                let left = source["left"], let right = source["right"]
            else { return [] }
            return tables(in: left) + tables(in: right)
        default: return []
        }
    }

    // MARK: Conditions

    private mutating func note(_ condition: JSONValue, _ sources: [Source]) {
        guard !sources.isEmpty else { return }
        switch condition["type"]?.stringValue {
        case "CONJUNCTION_AND":
            for child in condition["children"]?.arrayValue ?? [] { note(child, sources) }
        case "COMPARE_BETWEEN":
            guard let column = condition["input"] else { return }
            add(column, .greaterOrEqual, constant(condition["lower"]), sources)
            add(column, .lessOrEqual, constant(condition["upper"]), sources)
        case "COMPARE_IN":
            let children = condition["children"]?.arrayValue ?? []
            guard let column = children.first, let range = Self.range(children.dropFirst().map(constant)) else {
                return
            }
            add(column, .greaterOrEqual, range.low, sources)
            add(column, .lessOrEqual, range.high, sources)
        case let name?:
            guard let kind = Comparison.Operator(rawValue: name), let left = condition["left"],
                let right = condition["right"]
            else { return }
            if Self.isColumn(left) {
                let value = constant(right) ?? evaluated(condition, left, right, kind, isAlone: sources.count == 1)
                add(left, kind, value, sources)
            } else {
                add(right, kind.mirrored, constant(left), sources)
            }
        case nil: return
        }
    }

    private mutating func add(
        _ column: JSONValue,
        _ kind: Comparison.Operator,
        _ value: QueryPredicates.Constant?,
        _ sources: [Source]
    ) {
        guard let value, Self.isColumn(column),
            let path = column["column_names"]?.arrayValue?.compactMap(\.stringValue), let name = path.last
        else { return }
        // Without a qualifier a column of a join could be another table's.
        let source: Source?
        switch path.count {
        case 1: source = sources.count == 1 ? sources.first : nil
        case 2: source = sources.first { $0.alias == path[0].lowercased() }
        default: source = nil
        }
        guard let source else { return }
        found[source.table, default: []].append(Comparison(name, kind, value))
    }

    private static func isColumn(_ node: JSONValue) -> Bool { node["type"]?.stringValue == "COLUMN_REF" }

    private func constant(_ node: JSONValue?) -> QueryPredicates.Constant? {
        guard let node else { return nil }
        switch node["type"]?.stringValue {
        case "VALUE_CONSTANT":
            guard let text = node["literal"]?["text"]?.stringValue else { return nil }
            switch node["literal"]?["kind"]?.stringValue {
            case "INTEGER": return Int64(text).map { .integer($0) }
            case "NUMERIC": return Double(text).map { .double($0) }
            case "STRING": return .text(text)
            default: return nil
            }
        case "OPERATOR_CAST":
            let type = node["type_expr"]?["type_name"]?.stringValue?.uppercased() ?? ""
            guard ["TIMESTAMP", "DATE"].contains(type), case .text(let text)? = constant(node["child"]) else {
                return nil
            }
            return .text(text)
        case "FUNCTION":
            guard node["function_name"]?.stringValue == "-", let arguments = node["arguments"]?.arrayValue,
                arguments.count == 1
            else { return nil }
            switch constant(arguments[0]["expression"] ?? arguments[0]) {
            case .integer(let value): return .integer(-value)
            case .double(let value): return .double(-value)
            default: return nil
            }
        default: return nil
        }
    }

    private static func range(
        _ constants: [QueryPredicates.Constant?]
    ) -> (low: QueryPredicates.Constant, high: QueryPredicates.Constant)? {
        let integers = constants.compactMap { constant -> Int64? in
            if case .integer(let value)? = constant { value } else { nil }
        }
        if integers.count == constants.count, let low = integers.min(), let high = integers.max() {
            return (.integer(low), .integer(high))
        }
        let texts = constants.compactMap { constant -> String? in
            if case .text(let value)? = constant { value } else { nil }
        }
        let sorted = texts.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
        guard texts.count == constants.count, let low = sorted.first, let high = sorted.last else { return nil }
        return (.text(low), .text(high))
    }

    // MARK: Times

    /// Functions whose value is the same for the whole query, or a moment later than now is.
    private static let timeFunctions: Set = [
        "now", "current_timestamp", "get_current_timestamp", "transaction_timestamp", "today", "current_date", "-", "+",
        "to_seconds", "to_minutes", "to_hours", "to_days", "to_weeks", "to_months", "to_years", "to_milliseconds",
        "to_microseconds", "trunc", "date_trunc", "make_timestamp", "epoch_ms",
    ]

    /// The time that the right side of a comparison like `_timestamp > now() - INTERVAL 1 HOUR` stands for.
    ///
    /// It is worked out a little before the query runs, so it only serves as a lower bound.
    private func evaluated(
        _ condition: JSONValue,
        _ left: JSONValue,
        _ right: JSONValue,
        _ kind: Comparison.Operator,
        isAlone: Bool
    ) -> QueryPredicates.Constant? {
        guard kind == .greater || kind == .greaterOrEqual, isTime(right, isAlone),
            let start = condition["query_location"]?.intValue,
            let length = condition["query_location_length"]?.intValue,
            let column = left["query_location"]?.intValue, let columnLength = left["query_location_length"]?.intValue,
            start == column, length > columnLength, start >= 0, start + length <= Int64(sql.count)
        else { return nil }
        let rest = sql[Int(start + columnLength)..<Int(start + length)]
        let text = String(decoding: rest.drop { " \t\r\n<>=".utf8.contains($0) }, as: UTF8.self)
        let rows = try? connection.query("SELECT epoch_us((\(text))::TIMESTAMP)").rows()
        guard case .int(let micros)? = rows?.first?.first else { return nil }
        return .timestamp(micros)
    }

    /// Words that DuckDB parses as columns, and reads as times where there is no such column.
    private static let timeWords: Set = ["current_timestamp", "current_date", "localtimestamp"]

    private func isTime(_ node: JSONValue, _ isAlone: Bool) -> Bool {
        switch node["class"]?.stringValue {
        case "CONSTANT": return true
        case "COLUMN_REF":
            // In a join the word could be a column of a table that is not known here.
            guard isAlone, let path = node["column_names"]?.arrayValue, path.count == 1 else { return false }
            let word = path[0].stringValue?.lowercased() ?? ""
            return Self.timeWords.contains(word) && !isOwnColumn(word)
        case "CAST": return node["child"].map { isTime($0, isAlone) } ?? false
        case "FUNCTION":
            return Self.timeFunctions.contains(node["function_name"]?.stringValue?.lowercased() ?? "")
                && (node["arguments"]?.arrayValue ?? []).allSatisfy { isTime($0["expression"] ?? $0, isAlone) }
        default: return false
        }
    }
}
