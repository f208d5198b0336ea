// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore

/// A parameter of an operation: checked by the router, shown in the OpenAPI document.
struct Parameter: Sendable {
    enum Place: String, Sendable {
        case path
        case query
        case header
    }

    enum Kind: Sendable {
        case text(max: Int)
        case integer(ClosedRange<Int>, default: Int?)
        case flag
        case choice([String], default: String?)
        /// RFC 3339, or a duration before now such as `5m`.
        case time
    }

    let name: String
    let place: Place
    let kind: Kind
    var isRequired = false
    var repeats = false
    let about: String
    var example: JSONValue?

    static func query(
        _ name: String,
        _ kind: Kind,
        _ about: String,
        isRequired: Bool = false,
        repeats: Bool = false,
        example: JSONValue? = nil
    ) -> Parameter {
        Parameter(
            name: name,
            place: .query,
            kind: kind,
            isRequired: isRequired,
            repeats: repeats,
            about: about,
            example: example
        )
    }

    static func path(_ name: String, _ about: String, example: JSONValue, max: Int = 300) -> Parameter {
        Parameter(name: name, place: .path, kind: .text(max: max), isRequired: true, about: about, example: example)
    }

    static func header(_ name: String, _ about: String, isRequired: Bool = false, example: JSONValue? = nil)
        -> Parameter
    {
        Parameter(
            name: name,
            place: .header,
            kind: .text(max: 4096),
            isRequired: isRequired,
            about: about,
            example: example
        )
    }

    static let limit = query("limit", .integer(1...1000, default: 100), "Most entries in the answer.")
    static let cursor = query("cursor", .text(max: 200), "`pagination.next_cursor` of the page before.")
    static let name = query("name", .text(max: 128), "Keeps names that contain this text.", example: "exr")
    static let dryRun = query("dry_run", .flag, "Only check, and answer what would be made.")
    static let page = [limit, cursor, name]

    /// Says what is wrong with a value, or nil.
    func fault(_ value: String) -> (message: String, fix: String)? {
        switch kind {
        case .text(let max):
            guard value.unicodeScalars.count <= max else {
                return ("is longer than \(max) characters", "use at most \(max) characters")
            }
        case .integer(let range, _):
            guard let number = Int(value), range.contains(number) else {
                return (
                    "'\(value.prefix(60))' is no number in its range", "use \(range.lowerBound) to \(range.upperBound)"
                )
            }
        case .flag:
            guard value == "true" || value == "false" else {
                return ("'\(value.prefix(60))' is neither true nor false", "use true or false")
            }
        case .choice(let choices, _):
            guard choices.contains(value) else {
                return ("'\(value.prefix(60))' is not one of its values", "use \(choices.joined(separator: ", "))")
            }
        case .time:
            guard TimeExpression.date(value) != nil else {
                return (
                    "'\(value.prefix(60))' is no time", "use RFC 3339 (2026-04-08T15:41:29Z) or a duration (5m, 2h, 1d)"
                )
            }
        }
        return nil
    }
}
