// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials

/// How far a partition has been compacted, and since when.
///
/// Kept in the file `compaction` of the partition's folder: docs/formats/compaction.md. Without it everything is compacted once more.
struct CompactionState: Codable, Equatable, Sendable {
    /// What was compacted for the first time at one time.
    struct Horizon: Codable, Equatable, Sendable {
        /// The offset after it.
        var end: Int64
        /// Milliseconds since 1970.
        var at: Int64
    }

    static let fileName = "compaction"
    private static let currentVersion = 1
    private static let horizonsMax = 256

    private(set) var version = currentVersion
    /// Everything in front of this offset has been compacted: each key occurs once there.
    private(set) var end: Int64 = 0
    /// Ordered by offset; the last one ends at ``end``.
    private(set) var horizons: [Horizon] = []
    /// Tombstones and markers among it that are still there.
    private(set) var leftovers = 0

    /// When the records at this offset were first compacted; `nil` where they have not been.
    func compactedAt(_ offset: Int64) -> Int64? {
        var low = 0
        var high = horizons.count
        while low < high {
            let middle = (low + high) / 2
            if horizons[middle].end > offset { high = middle } else { low = middle + 1 }
        }
        return low < horizons.count ? horizons[low].at : nil
    }

    /// Whether tombstones or markers may go that were kept so far.
    func hasExpired(at now: Int64, retention: Int64) -> Bool {
        guard leftovers > 0, let first = horizons.first(where: { $0.at > .min }) else { return false }
        return now - retention >= first.at
    }

    /// Takes in a finished round that reached `end` and left so many tombstones and markers.
    mutating func advance(to end: Int64, at now: Int64, leftovers: Int, retention: Int64) {
        self.leftovers = leftovers
        // Those whose time was up say nothing more apart.
        let expired = horizons.prefix { $0.at == .min || now - retention >= $0.at }
        if let last = expired.last {
            horizons.removeFirst(expired.count)
            horizons.insert(Horizon(end: last.end, at: .min), at: 0)
        }
        if end > self.end {
            horizons.append(Horizon(end: end, at: now))
            self.end = end
        }
        // Later is safe: tombstones stay longer.
        while horizons.count > Self.horizonsMax { horizons.remove(at: 1) }
    }

    // MARK: File

    /// Writes the file; durable on return.
    func store(in directory: String) throws(EventLogError) {
        guard let data = try? JSONEncoder().encode(self) else {
            throw EventLogError(.inputOutput, "the state of compaction cannot be encoded", path: directory)
        }
        try Disk.replace("\(directory)/\(Self.fileName)", with: Array(data))
    }

    /// Reads the file; empty where there is none, or none that can be read.
    static func load(from directory: String) -> CompactionState {
        let path = "\(directory)/\(fileName)"
        // Compacting once more makes up for what cannot be read.
        guard Disk.exists(path), let bytes = try? Disk.readWhole(path),
            let found = try? JSONDecoder().decode(CompactionState.self, from: Data(bytes)),
            found.version == currentVersion, found.end >= 0
        else { return CompactionState() }
        return found
    }
}
