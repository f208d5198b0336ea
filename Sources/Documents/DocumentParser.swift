// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore

/// Reads what people submit, JSON or YAML, into a tree that knows on which line each field stood.
package enum DocumentParser {
    /// Largest text that is read, in bytes.
    package static let bytesMax = 16 << 20
    /// Most values a document may have once its aliases are followed.
    package static let valuesMax = 1_000_000
    /// Most fields whose line is remembered; the lines of later fields are unknown.
    static let linesMax = 200_000

    /// Parses one document.
    ///
    /// The media type decides the language; without one, a text that starts with a bracket is tried as JSON first. YAML is read by
    /// the core schema with two changes for the sake of names and variables: a plain scalar is a number or a boolean only when that
    /// value is written the same way again (`1.10`, `007` and `True` stay text, and ``DocumentReader`` reads them as numbers where
    /// one is wanted), and `<<` merges mappings.
    /// - Throws: `.tooLarge`; `.invalid` with the line for anything malformed, repeated keys, several documents or an alias bomb.
    package static func parse(_ bytes: [UInt8], contentType: String?) throws(ServiceError) -> Document {
        guard bytes.count <= bytesMax else {
            throw ServiceError(
                .tooLarge,
                "the document has \(bytes.count) bytes, more than the \(bytesMax >> 20) MiB that are read",
                fix: "split it or leave out what is not configuration"
            )
        }
        try checkEncoding(bytes)
        let text = bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? Array(bytes.dropFirst(3)) : bytes
        let type = contentType?.lowercased() ?? ""
        if type.contains("json") { return try JSONDocument.parse(text) }
        if type.contains("yaml") { return try YAMLDocument.parse(text) }
        let first = text.first { $0 != 0x20 && $0 != 0x09 && $0 != 0x0A && $0 != 0x0D }
        guard first == 0x7B || first == 0x5B else { return try YAMLDocument.parse(text) }
        do {
            return try JSONDocument.parse(text)
        } catch {
            // A flow mapping is YAML too; where it is neither, what was wrong with the JSON is the better message.
            if let document = try? YAMLDocument.parse(text) { return document }
            throw error
        }
    }

    /// Parses a text that stands inside another document.
    package static func parse(_ text: String, contentType: String? = nil) throws(ServiceError) -> Document {
        try parse(Array(text.utf8), contentType: contentType)
    }

    private static func checkEncoding(_ bytes: [UInt8]) throws(ServiceError) {
        do {
            _ = try UTF8Span(validating: bytes.span)
        } catch {
            let offset = error.byteOffsets.lowerBound
            var line = 1
            for byte in bytes[..<offset] where byte == 0x0A { line += 1 }
            throw ServiceError(
                .invalid,
                "the document is not UTF-8: invalid byte 0x\(String(bytes[offset], radix: 16)) at byte offset \(offset), line \(line)",
                fix: "save the document as UTF-8",
                fields: [.init(field: "", message: "invalid UTF-8 at byte offset \(offset)", line: line)]
            )
        }
    }
}

extension ServiceError {
    /// The refusal of a text that cannot be read as a document.
    static func malformed(_ message: String, line: Int?, column: Int? = nil, fix: String? = nil) -> Self {
        let message = column.map { "column \($0): \(message)" } ?? message
        let place = line.map { "line \($0)\(column == nil ? ": " : ", ")" } ?? ""
        return ServiceError(
            .invalid,
            place + message,
            fix: fix,
            fields: [.init(field: "", message: message, fix: fix, line: line)]
        )
    }
}
