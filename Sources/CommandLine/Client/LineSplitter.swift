// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Cuts a stream of bytes into lines; empty lines are left out.
struct LineSplitter: Sendable {
    private var rest: [UInt8] = []

    init() {}

    /// The lines completed by `bytes`, without their line feeds.
    mutating func add(_ bytes: [UInt8]) -> [[UInt8]] {
        rest += bytes
        var lines: [[UInt8]] = []
        var start = 0
        while let end = rest[start...].firstIndex(of: 0x0A) {
            if end > start { lines.append(Array(rest[start..<end])) }
            start = end + 1
        }
        rest.removeFirst(start)
        return lines
    }
}
