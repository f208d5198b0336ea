// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore

extension DocumentReader {
    /// A scalar as text; nil for null, lists and objects.
    package static func text(_ value: JSONValue) -> String? {
        switch value {
        case .string(let text): text
        case .int(let number): String(number)
        case .double(let number): number.description
        case .number(let text): text
        case .bool(let flag): flag ? "true" : "false"
        default: nil
        }
    }

    /// A whole number, quoted or not; nil for anything else.
    package static func integer(_ value: JSONValue) -> Int? {
        switch value {
        case .int(let number): Int(exactly: number)
        case .double(let number): Int(exactly: number)
        case .number: value.doubleValue.flatMap { Int(exactly: $0) }
        case .string(let text): CoreSchema.int(trim(text)).flatMap { Int(exactly: $0) }
        default: nil
        }
    }

    /// A value as messages quote it, cut where it is long.
    package static func show(_ value: JSONValue) -> String {
        switch value {
        case .string(let text): "'\(text.count > 80 ? text.prefix(80) + "…" : text[...])'"
        default: text(value) ?? noun(value)
        }
    }

    static func noun(_ value: JSONValue) -> String {
        switch value {
        case .null: "null"
        case .bool: "a boolean"
        case .int, .double, .number: "a number"
        case .string: "text"
        case .array: "a list"
        case .object: "an object"
        }
    }

    static func words(_ range: ClosedRange<Int>) -> String {
        switch (range.lowerBound, range.upperBound) {
        case (.min, .max): "a whole number"
        case (let low, .max): "a whole number, at least \(low)"
        case (.min, let high): "a whole number, at most \(high)"
        case (let low, let high): "a whole number from \(low) to \(high)"
        }
    }

    static func trim(_ text: some StringProtocol) -> String {
        var slice = text[...]
        while let first = slice.first, first.isWhitespace { slice = slice.dropFirst() }
        while let last = slice.last, last.isWhitespace { slice = slice.dropLast() }
        return String(slice)
    }
}

extension [String] {
    /// The elements without repetitions, in order.
    func uniqued() -> [String] {
        var seen: Set<String> = []
        return filter { seen.insert($0).inserted }
    }
}
