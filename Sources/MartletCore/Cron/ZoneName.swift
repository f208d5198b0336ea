// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Foundation

/// Names of the IANA time zone database.
package enum ZoneName {
    /// The zone of a name, in any case.
    ///
    /// - Throws: `CronError` with near names.
    package static func zone(_ name: String) throws(CronError) -> TimeZone {
        let upper = name.uppercased()
        if ["UTC", "GMT", "Z", "ETC/UTC", "ETC/GMT"].contains(upper) { return .gmt }
        let known = TimeZone.knownTimeZoneIdentifiers
        if let exact = known.first(where: { $0.uppercased() == upper }), let zone = TimeZone(identifier: exact) {
            return zone
        }
        // Older names, such as US/Eastern, are not listed but are zones too.
        if name.contains("/"), isName(name), let zone = TimeZone(identifier: name), zone.identifier != "GMT" {
            return zone
        }
        let near = near(upper, known)
        throw CronError(
            field: "time zone",
            value: name,
            "is not a name of the IANA time zone database",
            fix: near.isEmpty ? "use a name such as UTC, Europe/Berlin or America/New_York" : "did you mean \(near)?"
        )
    }

    private static func isName(_ name: String) -> Bool {
        name.utf8.count <= 64
            && name.utf8.allSatisfy { byte in
                (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
                    || [0x2F, 0x5F, 0x2D, 0x2B].contains(byte)
            }
    }

    private static func near(_ name: String, _ known: [String]) -> String {
        let wanted = Array(name.utf8.prefix(64))
        let city = Array((name.split(separator: "/").last ?? "").utf8.prefix(64))
        guard !city.isEmpty else { return "" }
        let scored = known.compactMap { candidate -> (name: String, distance: Int)? in
            let whole = Array(candidate.uppercased().utf8)
            let last = Array((candidate.uppercased().split(separator: "/").last ?? "").utf8)
            let distance = min(distance(wanted, whole), distance(city, last))
            return distance <= max(1, city.count / 3) ? (candidate, distance) : nil
        }
        let best = scored.sorted { left, right in (left.distance, left.name) < (right.distance, right.name) }.prefix(3)
        return best.map { $0.name }.joined(separator: ", ")
    }

    /// Insertions, deletions and replacements that turn one text into the other.
    private static func distance(_ left: [UInt8], _ right: [UInt8]) -> Int {
        var last = Array(0...right.count)
        for (row, byte) in left.enumerated() {
            var current = [row + 1]
            for (column, other) in right.enumerated() {
                current.append(
                    min(last[column + 1] + 1, current[column] + 1, last[column] + (byte == other ? 0 : 1))
                )
            }
            last = current
        }
        return last[right.count]
    }
}
