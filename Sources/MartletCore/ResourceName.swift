// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// A resource name as manifests write it: `vast:dataengine:<kind>:<name>`.
///
/// Accepted liberally: the kind in singular or plural, and `martlet:` in place of `vast:dataengine:`. Topics may be `<broker>/<topic>`.
package struct ResourceName: Hashable, Sendable, CustomStringConvertible {
    package var kind: String
    package var name: String

    package init(kind: ResourceKind, name: String) {
        self.kind = kind.rawValue
        self.name = name
    }

    /// Parses a full resource name; nil where `text` is not one.
    package init?(_ text: some StringProtocol) {
        let parts = text.split(separator: ":", maxSplits: 3, omittingEmptySubsequences: false)
        let tail: [Substring]
        if parts.count == 4, parts[0] == "vast", parts[1] == "dataengine" {
            tail = [Substring(parts[2]), Substring(parts[3])]
        } else {
            let short = text.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard short.count == 3, short[0] == "martlet" else { return nil }
            tail = [Substring(short[1]), Substring(short[2])]
        }
        guard !tail[0].isEmpty, !tail[1].isEmpty else { return nil }
        kind = tail[0].hasSuffix("s") ? String(tail[0]) : tail[0] + "s"
        name = String(tail[1])
    }

    /// The topic's own name where this names a topic as `<broker>/<topic>`.
    package var topicName: String {
        name.split(separator: "/", maxSplits: 1).last.map(String.init) ?? name
    }

    package var description: String { "vast:dataengine:\(kind):\(name)" }

    /// Whether `name` may name a resource: 1 to 128 of letters, digits, `.`, `_`, `-`, starting with a letter or digit.
    package static func isValidName(_ name: String) -> Bool {
        let bytes = name.utf8
        guard (1...128).contains(bytes.count), let first = bytes.first, isAlphanumeric(first) else { return false }
        return bytes.allSatisfy { isAlphanumeric($0) || $0 == 0x2E || $0 == 0x5F || $0 == 0x2D }
    }

    /// Throws the refusal every service gives for an unusable name.
    package static func check(_ name: String) throws(ServiceError) {
        guard isValidName(name) else {
            throw .invalid(
                field: "name",
                "'\(name.prefix(140))' is not a usable name",
                fix: "use 1 to 128 letters, digits, '.', '_' or '-', starting with a letter or digit"
            )
        }
    }

    private static func isAlphanumeric(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
    }
}
