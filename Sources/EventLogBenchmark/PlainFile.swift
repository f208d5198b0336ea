// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Glibc

/// The disk's own sequential write: a file that one writer extends group by group, each flushed before the next.
final class PlainFile {
    private let path: String
    private let descriptor: Int32
    private var end = 0

    init(path: String) throws {
        self.path = path
        descriptor = open(path, O_RDWR | O_CREAT | O_TRUNC, 0o644)
        guard descriptor >= 0 else { throw BenchmarkError(message: "\(path) cannot be opened: errno \(errno)") }
    }

    deinit { close(descriptor) }

    /// Writes at least `bytes`, flushed after each `groupBytes`.
    ///
    /// - Returns: Megabytes per second.
    func write(bytes: Int, groupBytes: Int) throws -> Double {
        let group = [UInt8](repeating: 0x41, count: groupBytes)
        let first = end
        let start = ContinuousClock.now
        while end - first < bytes {
            let count = group.withUnsafeBytes { pwrite(descriptor, $0.baseAddress, $0.count, off_t(end)) }
            guard count == groupBytes, fdatasync(descriptor) == 0 else {
                throw BenchmarkError(message: "\(path) cannot be written: errno \(errno)")
            }
            end += count
        }
        return Double(end - first) / ((ContinuousClock.now - start) / .seconds(1)) / 1e6
    }
}
