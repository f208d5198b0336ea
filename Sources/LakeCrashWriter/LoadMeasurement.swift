// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import Lake

/// Writes six tables in transactions of some forty rows and measures.
enum LoadMeasurement {
    static func run(_ lake: Lake, committers: Int, seconds: Int) async throws {
        let end = ContinuousClock.now + .seconds(seconds)
        let started = ContinuousClock.now
        var latencies: [Duration] = []
        var rows = 0
        try await withThrowingTaskGroup(of: (latencies: [Duration], rows: Int).self) { group in
            for committer in 0..<committers {
                group.addTask {
                    var latencies: [Duration] = []
                    var rows = 0
                    var number = 0
                    while ContinuousClock.now < end {
                        let body = body(path: "/data/shots/committer_\(committer)/frame_\(number).exr")
                        let begin = ContinuousClock.now
                        let transaction = try TableTransaction.decode(body)
                        rows += transaction.rowCount
                        _ = try await lake.commit(transaction)
                        latencies.append(ContinuousClock.now - begin)
                        number += 1
                    }
                    return (latencies, rows)
                }
            }
            for try await part in group {
                latencies += part.latencies
                rows += part.rows
            }
        }
        let elapsed = (ContinuousClock.now - started) / .seconds(1)
        latencies.sort()
        func percentile(_ fraction: Double) -> Duration { latencies[Int(Double(latencies.count - 1) * fraction)] }
        print(
            "\(committers) committers: \(Int(Double(rows) / elapsed)) rows/s, \(Int(Double(latencies.count) / elapsed)) commits/s, "
                + "p50 \(percentile(0.5)), p95 \(percentile(0.95)), p99 \(percentile(0.99)), max \(percentile(1)), "
                + "resident \(residentMegabytes()) MB"
        )
    }

    static func residentMegabytes() -> Int {
        guard let file = fopen("/proc/self/statm", "r") else { return 0 }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 128)
        guard fgets(&line, 128, file) != nil else { return 0 }
        let fields = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self).split(
            separator: " "
        )
        return fields.count > 1 ? (Int(fields[1]) ?? 0) * 4096 / 1_000_000 : 0
    }

    /// The transaction of one image file: deletes what an earlier inspection left, then writes all six tables.
    private static func body(path: String) -> [UInt8] {
        let channels = ["R", "G", "B", "A", "Z", "N.x", "N.y", "N.z"]
        let attributes = (0..<20).map { #"["\#(path)",0,"attribute\#($0)","string","value \#($0)"]"# }
        let deletes = ["parts", "channels", "attributes", "stats", "validation"].map {
            #"{"op":"delete","table":"\#($0)","columns":["file_path"],"rows":[["\#(path)"]]}"#
        }
        let upserts = [
            upsert(
                "files",
                ["path"],
                ["path", "size_bytes", "mtime", "is_deep"],
                [#"["\#(path)",415,{"$timestamp":"2026-04-08T15:41:29.591955Z"},false]"#]
            ),
            upsert(
                "parts",
                ["file_path", "part_index"],
                ["file_path", "part_index", "part_name", "window"],
                [#"["\#(path)",0,"main",[0,0,1919,1079]]"#]
            ),
            upsert(
                "channels",
                ["file_path", "part_index", "name"],
                ["file_path", "part_index", "name", "type", "x_sampling"],
                channels.map { #"["\#(path)",0,"\#($0)","half",1]"# }
            ),
            upsert(
                "attributes",
                ["file_path", "part_index", "name"],
                ["file_path", "part_index", "name", "type", "value"],
                attributes
            ),
            upsert(
                "stats",
                ["file_path", "part_index", "channel"],
                ["file_path", "part_index", "channel", "min", "max"],
                channels.map { #"["\#(path)",0,"\#($0)",0.25,1.5]"# }
            ),
            upsert(
                "validation",
                ["file_path", "code"],
                ["file_path", "code", "message"],
                [#"["\#(path)","W001","no owner"]"#, #"["\#(path)","W002","no comments"]"#]
            ),
        ]
        return Array("{\"operations\":[\((deletes + upserts).joined(separator: ","))]}".utf8)
    }

    private static func upsert(_ table: String, _ key: [String], _ columns: [String], _ rows: [String]) -> String {
        let key = key.map { "\"\($0)\"" }.joined(separator: ",")
        let columns = columns.map { "\"\($0)\"" }.joined(separator: ",")
        return
            #"{"op":"upsert","table":"\#(table)","key":[\#(key)],"columns":[\#(columns)],"rows":[\#(rows.joined(separator: ","))]}"#
    }
}
