// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore

/// The checked parameters of one request.
struct Arguments: Sendable {
    private var values: [String: [String]] = [:]

    init() {}

    /// Reads a raw query strictly: unknown, repeated, missing or unusable parameters are refused.
    init(query: String, parameters: [Parameter]) throws {
        let known = parameters.filter { $0.place == .query }
        for pair in query.split(separator: "&") {
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let name = PercentCoding.decodeForm(parts[0]),
                let value = PercentCoding.decodeForm(parts.count > 1 ? parts[1] : "")
            else {
                throw Refusal.malformed(
                    "the query '\(pair.prefix(100))' is not percent-encoded UTF-8",
                    fix: "encode it as %XX bytes of UTF-8"
                )
            }
            guard let parameter = known.first(where: { $0.name == name }) else { throw Self.unknown(name, known) }
            if let fault = parameter.fault(value) {
                throw Refusal.badParameter(name, "\(name): \(fault.message)", fix: fault.fix)
            }
            if values[name] != nil, !parameter.repeats {
                throw Refusal.badParameter(name, "\(name) is given twice", fix: "leave one of them out")
            }
            values[name, default: []].append(value)
        }
        for parameter in known where parameter.isRequired && values[parameter.name] == nil {
            throw Refusal.badParameter(
                parameter.name,
                "the query parameter '\(parameter.name)' is missing",
                fix: "add ?\(parameter.name)=…"
            )
        }
    }

    private static func unknown(_ name: String, _ known: [Parameter]) -> Refusal {
        Refusal.badParameter(
            name,
            "there is no query parameter '\(name.prefix(100))' here",
            fix: known.isEmpty
                ? "this operation takes none"
                : "known ones: \(known.map(\.name).joined(separator: ", "))"
        )
    }

    func text(_ name: String) -> String? { values[name]?.first }

    func all(_ name: String) -> [String] { values[name] ?? [] }

    func integer(_ name: String) -> Int? { text(name).flatMap { Int($0) } }

    func flag(_ name: String) -> Bool { text(name) == "true" }

    func time(_ name: String) -> Date? { text(name).flatMap { TimeExpression.date($0) } }
}

/// Percent-encoding of paths, queries and headers.
enum PercentCoding {
    /// Decodes a query part, where '+' is a space; nil where it is not UTF-8 or has a broken escape.
    static func decodeForm(_ text: Substring) -> String? {
        decode(text, plusIsSpace: true)
    }

    /// Decodes a path segment or header; nil where it is not UTF-8 or has a broken escape.
    static func decode(_ text: Substring, plusIsSpace: Bool = false) -> String? {
        var bytes: [UInt8] = []
        var rest = text.utf8.makeIterator()
        while let byte = rest.next() {
            switch byte {
            case 0x25:
                guard let high = rest.next().flatMap(digit), let low = rest.next().flatMap(digit) else { return nil }
                bytes.append(high << 4 | low)
            case 0x2B where plusIsSpace: bytes.append(0x20)
            default: bytes.append(byte)
            }
        }
        return String(validating: bytes, as: UTF8.self)
    }

    /// Encodes everything but unreserved characters.
    static func encode(_ text: String) -> String {
        var result = ""
        for byte in text.utf8 {
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x2E, 0x5F, 0x7E:
                result.unicodeScalars.append(Unicode.Scalar(byte))
            default:
                let digits = String(byte, radix: 16, uppercase: true)
                result += "%" + (digits.count < 2 ? "0" : "") + digits
            }
        }
        return result
    }

    private static func digit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 0x30...0x39: byte - 0x30
        case 0x41...0x46, 0x61...0x66: (byte | 0x20) - 0x57
        default: nil
        }
    }
}
