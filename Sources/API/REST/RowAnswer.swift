// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Hummingbird
import MartletCore
import NIOCore

/// A query's answer as one JSON object.
enum RowAnswer {
    /// Most bytes of rows in one answer; more are cut and said to be.
    static let bytesMax = 256 << 20

    static func bytes(_ answer: QueryAnswer, limit: Int) async throws -> [UInt8] {
        var bytes = Array(#"{"columns":["#.utf8)
        for (index, column) in answer.columns.enumerated() {
            if index > 0 { bytes.append(0x2C) }
            bytes +=
                JSONValue.object(
                    JSONObject(members: [
                        .init(key: "name", value: .string(column.name)),
                        .init(key: "type", value: .string(column.type)),
                    ])
                ).bytes
        }
        bytes += Array(#"],"rows":["#.utf8)
        var count = 0
        var isTruncated = false
        reading: for try await batch in answer.batches {
            for row in batch {
                guard count < limit, bytes.count < bytesMax else {
                    isTruncated = true
                    break reading
                }
                if count > 0 { bytes.append(0x2C) }
                JSONWriter.append(.array(row), to: &bytes)
                count += 1
            }
        }
        bytes += Array(#"],"truncated":\#(isTruncated)}"#.utf8)
        return bytes
    }
}

/// A query's answer as a stream of CSV (RFC 4180): NULL is empty, an empty text is `""`.
enum CSVAnswer {
    static func response(_ answer: QueryAnswer, limit: Int?) -> Response {
        let body = ResponseBody { writer in
            var bytes: [UInt8] = []
            append(answer.columns.map { .string($0.name) }, to: &bytes)
            var left = limit ?? .max
            for try await batch in answer.batches {
                for row in batch.prefix(left) { append(row, to: &bytes) }
                left -= min(left, batch.count)
                if bytes.count > 64 << 10 || left == 0 {
                    try await writer.write(ByteBuffer(bytes: bytes))
                    bytes.removeAll(keepingCapacity: true)
                }
                if left == 0 { break }
            }
            if !bytes.isEmpty { try await writer.write(ByteBuffer(bytes: bytes)) }
            try await writer.finish(nil)
        }
        return Response(status: .ok, headers: [.contentType: "text/csv; charset=utf-8"], body: body)
    }

    static func append(_ row: [JSONValue], to bytes: inout [UInt8]) {
        for (index, value) in row.enumerated() {
            if index > 0 { bytes.append(0x2C) }
            switch value {
            case .null: break
            case .string(let text): append(text, to: &bytes)
            case .array, .object: append(value.text, to: &bytes)
            case .bool, .int, .double, .number: JSONWriter.append(value, to: &bytes)
            }
        }
        bytes += [0x0D, 0x0A]
    }

    private static func append(_ text: String, to bytes: inout [UInt8]) {
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
