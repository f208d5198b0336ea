// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
import Testing

@Suite struct AppenderTests {
    @Test func writesEveryTypeWithNulls() throws {
        let connection = try DuckDBFixture.memory()
        let types: [ColumnType] = [
            .boolean, .bigint, .hugeint, .double, .varchar, .json, .blob, .date, .timestamp,
            .decimal(width: 4, scale: 1), .decimal(width: 9, scale: 2), .decimal(width: 18, scale: 3),
            .decimal(width: 38, scale: 4),
        ]
        let columns = types.enumerated().map { (name: "c\($0.offset)", type: $0.element) }
        let definition = columns.map { "\($0.name) \($0.type)" }.joined(separator: ", ")
        try connection.execute("CREATE TABLE t(\(definition))")
        var buffers = types.map { ColumnBuffer($0) }
        let rowCount = 5_000
        for row in 0..<rowCount {
            for index in buffers.indices {
                if row % 7 == index % 7 {
                    buffers[index].appendNull()
                    continue
                }
                switch types[index] {
                case .boolean: buffers[index].append(row % 2 == 0)
                case .bigint, .date, .timestamp: buffers[index].append(Int64(row))
                case .hugeint, .decimal: buffers[index].append(wide: Int128(-(row % 10_000)))
                case .double: buffers[index].append(Double(row) / 2)
                case .varchar: buffers[index].append("row ü \(row) with some more text")
                case .json: buffers[index].append("{\"row\":\(row)}")
                case .blob: buffers[index].append(bytes: [UInt8(row % 256), 0])
                }
            }
        }
        let appender = try Appender(connection: connection, table: "t", columns: columns)
        try appender.append(buffers)
        try appender.flush()
        let counts = try connection.query("SELECT count(*), count(c0), sum(c1), max(c12) FROM t").rows()
        let present = (0..<rowCount).filter { $0 % 7 != 1 }.reduce(0, +)
        #expect(counts[0][0] == .int(Int64(rowCount)))
        #expect(counts[0][1] == .int(Int64((0..<rowCount).filter { $0 % 7 != 0 }.count)))
        #expect(counts[0][2] == .hugeint(Int128(present)))
        let row = try connection.query("SELECT * FROM t WHERE c1 = 2050").rows()
        #expect(
            row == [
                [
                    .bool(true), .int(2050), .hugeint(-2050), .double(1025), .string("row ü 2050 with some more text"),
                    .json("{\"row\":2050}"), .null, .date(2050), .timestamp(2050),
                    .decimal(DecimalValue(unscaled: -2050, width: 4, scale: 1)),
                    .decimal(DecimalValue(unscaled: -2050, width: 9, scale: 2)),
                    .decimal(DecimalValue(unscaled: -2050, width: 18, scale: 3)),
                    .decimal(DecimalValue(unscaled: -2050, width: 38, scale: 4)),
                ]
            ]
        )
    }

    @Test func feedsAStatementAndReportsItsErrors() throws {
        let connection = try DuckDBFixture.memory()
        try connection.execute("CREATE TABLE t(k BIGINT PRIMARY KEY, v VARCHAR)")
        func upsert(_ pairs: [(Int64, String)], _ conflict: String) throws {
            var keys = ColumnBuffer(.bigint)
            var values = ColumnBuffer(.varchar)
            for (key, value) in pairs {
                keys.append(key)
                values.append(value)
            }
            let appender = try Appender(
                connection: connection,
                statement: "INSERT INTO t SELECT k, v FROM incoming \(conflict)",
                rows: "incoming",
                columns: [("k", .bigint), ("v", .varchar)]
            )
            try appender.append([keys, values])
            try appender.flush()
        }
        let conflict = "ON CONFLICT (k) DO UPDATE SET v = excluded.v"
        try upsert([(1, "a"), (2, "b")], conflict)
        try upsert([(2, "c"), (3, "")], conflict)
        let rows = try connection.query("FROM t ORDER BY k").rows()
        #expect(rows == [[.int(1), .string("a")], [.int(2), .string("c")], [.int(3), .string("")]])
        let error = #expect(throws: DuckDBError.self) { try upsert([(1, "x")], "") }
        #expect(error?.code == .constraint)
    }

    @Test func refusesAMissingTable() throws {
        let connection = try DuckDBFixture.memory()
        #expect(throws: DuckDBError.self) {
            try Appender(connection: connection, table: "missing", columns: [("a", .bigint)])
        }
    }
}
