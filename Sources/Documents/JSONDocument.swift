// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore

/// Strict JSON with the line of every field.
struct JSONDocument {
    private var cursor: JSONCursor
    private var lines: [String: Int] = [:]
    private var countedTo = 0
    private var line = 1
    private var values = 0

    static func parse(_ bytes: [UInt8]) throws(ServiceError) -> Document {
        let outcome: Result<Document, ServiceError> = bytes.withUnsafeBytes { buffer in
            var reader = JSONDocument(cursor: JSONCursor(buffer))
            do {
                let value = try reader.value(path: "")
                try reader.cursor.finish()
                // In a text of one line, as programs send it, the line says nothing.
                return .success(Document(value: value, lines: bytes.contains(0x0A) ? reader.lines : [:]))
            } catch let error as JSONError {
                return .failure(Self.refusal(error, bytes: bytes))
            } catch let error as ServiceError {
                return .failure(error)
            } catch {
                return .failure(ServiceError(.internal, "reading a JSON document failed: \(error)"))
            }
        }
        return try outcome.get()
    }

    private init(cursor: JSONCursor) {
        self.cursor = cursor
    }

    private mutating func value(path: String) throws -> JSONValue {
        values += 1
        guard values <= DocumentParser.valuesMax else {
            throw ServiceError(.tooLarge, "the document has more than \(DocumentParser.valuesMax) values")
        }
        let kind = try cursor.peek()
        note(path)
        switch kind {
        case .object: return try object(path: path)
        case .array:
            var elements: [JSONValue] = []
            try cursor.beginArray()
            while try cursor.nextElement() { elements.append(try value(path: "\(path)[\(elements.count)]")) }
            return .array(elements)
        default: return try cursor.readValue()
        }
    }

    private mutating func object(path: String) throws -> JSONValue {
        var members: [JSONObject.Member] = []
        var firstLines: [String: Int] = [:]
        try cursor.beginObject()
        while let key = try cursor.nextKey() {
            let line = currentLine()
            if let first = firstLines.updateValue(line, forKey: key) {
                throw ServiceError.malformed(
                    "key '\(key)' is given twice in one object, first on line \(first)",
                    line: line,
                    fix: "keep one of them"
                )
            }
            members.append(.init(key: key, value: try value(path: path.isEmpty ? key : "\(path).\(key)")))
        }
        return .object(JSONObject(members: members))
    }

    private mutating func note(_ path: String) {
        guard lines.count < DocumentParser.linesMax else { return }
        lines[path] = currentLine()
    }

    private mutating func currentLine() -> Int {
        if countedTo < cursor.offset {
            for byte in cursor.bytes(countedTo..<cursor.offset) where byte == 0x0A { line += 1 }
            countedTo = cursor.offset
        }
        return line
    }

    private static func refusal(_ error: JSONError, bytes: [UInt8]) -> ServiceError {
        let before = bytes[..<min(error.offset, bytes.count)]
        let line = 1 + before.count { $0 == 0x0A }
        let column = before.count - (before.lastIndex(of: 0x0A).map { $0 + 1 } ?? 0) + 1
        return .malformed("malformed JSON, \(error.reason)", line: line, column: column, fix: "correct the JSON text")
    }
}
