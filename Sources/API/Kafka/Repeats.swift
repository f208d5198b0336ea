// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

extension Sequence {
    /// The elements without those whose key was there before.
    ///
    /// For what a request asks to be described: a short name that is repeated would have a long answer each time, and so one request
    /// an answer without a bound.
    func withoutRepeats<Key: Hashable>(_ key: (Element) -> Key) -> [Element] {
        var seen: Set<Key> = []
        return filter { seen.insert(key($0)).inserted }
    }

    /// The keys that there are more than one of.
    ///
    /// For what a request asks to be changed: of two changes nobody can say which is meant.
    func repeated<Key: Hashable>(_ key: (Element) -> Key) -> Set<Key> {
        var seen: Set<Key> = []
        return Set(map(key).filter { !seen.insert($0).inserted })
    }
}

extension Sequence where Element: Hashable {
    /// The elements without those that were there before.
    func withoutRepeats() -> [Element] { withoutRepeats { $0 } }
}
