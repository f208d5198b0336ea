// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore

extension ResultLine {
    /// Parses one line; `count` bounds the indices.
    ///
    /// - Throws: `JSONError`, or ``MalformedResult`` where the shape is not the protocol's.
    package static func parse(_ bytes: UnsafeRawBufferPointer, count: Int) throws -> ResultLine {
        var cursor = JSONCursor(bytes)
        try cursor.beginObject()
        guard let key = try cursor.nextKey() else { throw MalformedResult(what: "an empty line") }
        let line: ResultLine
        switch key {
        case "results": line = .results(try results(&cursor, count: count))
        case "running": line = .running(try running(&cursor, count: count))
        default: throw MalformedResult(what: "key '\(key.prefix(40))'")
        }
        guard try cursor.nextKey() == nil else { throw MalformedResult(what: "more than one key") }
        try cursor.finish()
        return line
    }

    private static func results(_ cursor: inout JSONCursor, count: Int) throws -> [InvocationResult] {
        var all = [InvocationResult]()
        try cursor.beginArray()
        while try cursor.nextElement() {
            try cursor.beginArray()
            let index = try index(&cursor, count: count)
            let status = try status(&cursor)
            guard try cursor.nextElement() else { throw MalformedResult(what: "a result without start") }
            let start = try time(&cursor)
            guard try cursor.nextElement() else { throw MalformedResult(what: "a result without duration") }
            let duration = try time(&cursor)
            var result = InvocationResult(index: index, status: status, startMicros: start, durationMicros: duration)
            if try cursor.nextElement() {
                if try !cursor.readNullIfPresent() { result.outputs = try outputs(&cursor) }
                if try cursor.nextElement() {
                    if try !cursor.readNullIfPresent() { result.failure = try failure(&cursor) }
                    if try cursor.nextElement() {
                        if try !cursor.readNullIfPresent() { result.span = try cursor.readValue() }
                        guard try !cursor.nextElement() else {
                            throw MalformedResult(what: "a result of more than 7 items")
                        }
                    }
                }
            }
            all.append(result)
        }
        return all
    }

    private static func running(_ cursor: inout JSONCursor, count: Int) throws -> [(index: Int, milliseconds: Int64)] {
        var all = [(index: Int, milliseconds: Int64)]()
        try cursor.beginArray()
        while try cursor.nextElement() {
            try cursor.beginArray()
            let index = try index(&cursor, count: count)
            guard try cursor.nextElement() else { throw MalformedResult(what: "a running pair of one item") }
            all.append((index, try cursor.readInt64()))
            guard try !cursor.nextElement() else { throw MalformedResult(what: "a running pair of three items") }
        }
        return all
    }

    private static func index(_ cursor: inout JSONCursor, count: Int) throws -> Int {
        guard try cursor.nextElement() else { throw MalformedResult(what: "an empty result") }
        let index = Int(try cursor.readInt64())
        guard (0..<count).contains(index) else { throw MalformedResult(what: "index \(index) of \(count) events") }
        return index
    }

    /// Microseconds; bounded so that sums of two of them stay numbers.
    private static func time(_ cursor: inout JSONCursor) throws -> Int64 {
        let micros = try cursor.readInt64()
        guard (0..<1 << 60).contains(micros) else { throw MalformedResult(what: "a time of \(micros) µs") }
        return micros
    }

    private static func status(_ cursor: inout JSONCursor) throws -> InvocationResult.Status {
        guard try cursor.nextElement() else { throw MalformedResult(what: "a result without status") }
        switch try cursor.readString() {
        case "ok": return .ok
        case "error": return .error
        case "timeout": return .timeout
        case let other: throw MalformedResult(what: "status '\(other.prefix(40))'")
        }
    }

    private static func outputs(_ cursor: inout JSONCursor) throws -> [InvocationResult.Output] {
        var all = [InvocationResult.Output]()
        try cursor.beginArray()
        while try cursor.nextElement() {
            var output = InvocationResult.Output(data: nil, isJSON: true, labels: [], attributes: [])
            try cursor.beginObject()
            while let key = try cursor.nextKey() {
                switch key {
                case "data":
                    output.data = Array(cursor.bytes(try cursor.skipValue()))
                case "data_base64":
                    guard let data = Data(base64Encoded: try cursor.readString()) else {
                        throw MalformedResult(what: "data_base64 that is not base64")
                    }
                    output.data = Array(data)
                    output.isJSON = false
                case "labels": output.labels = try strings(&cursor)
                case "attributes": output.attributes = try strings(&cursor)
                default: _ = try cursor.skipValue()
                }
            }
            all.append(output)
        }
        return all
    }

    private static func strings(_ cursor: inout JSONCursor) throws -> [(name: String, value: String)] {
        if try cursor.readNullIfPresent() { return [] }
        var all = [(name: String, value: String)]()
        try cursor.beginObject()
        while let key = try cursor.nextKey() {
            switch try cursor.peek() {
            case .string: all.append((key, try cursor.readString()))
            case .null: try cursor.readNull()
            default:
                let range = try cursor.skipValue()
                all.append((key, cursor.text(range)))
            }
        }
        return all
    }

    private static func failure(_ cursor: inout JSONCursor) throws -> InvocationResult.Failure {
        var failure = InvocationResult.Failure(type: "Error", message: "")
        try cursor.beginObject()
        while let key = try cursor.nextKey() {
            switch key {
            case "type": failure.type = try cursor.readString()
            case "message": failure.message = try cursor.readString()
            case "traceback":
                if try !cursor.readNullIfPresent() { failure.traceback = try cursor.readString() }
            default: _ = try cursor.skipValue()
            }
        }
        return failure
    }
}

/// A result line that does not follow the worker protocol.
package struct MalformedResult: Error, Sendable, CustomStringConvertible {
    package var what: String

    package init(what: String) {
        self.what = what
    }

    package var description: String { "the worker sent \(what) in a result line" }
}
