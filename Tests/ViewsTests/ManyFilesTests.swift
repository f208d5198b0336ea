// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Dispatch
import Foundation
import Testing
import Views

@Suite(.serialized, .timeLimit(.minutes(5)))
struct ManyFilesTests {
    /// Four writers fill 100 directories as fast as the system lets them; the kernel's queue overflows on the way.
    @Test func hundredThousandFilesAtOnceLoseNoneAndRepeatNone() async throws {
        let count = 100_000
        // In memory where there is such a place: it is faster, which is harder on the watcher, and spares the disk.
        let isInMemory = access("/dev/shm", W_OK) == 0
        let path = isInMemory ? "/dev/shm/martlet-view-\(UUID().uuidString)" : WatchedDirectory.temporaryPath()
        defer { try? FileManager.default.removeItem(atPath: path) }  // Nothing can be done about it.
        try await WatchedDirectory.with(path: path) { directory async throws in
            let start = ContinuousClock.now
            // Not on the pool of tasks, which the other side needs.
            await withCheckedContinuation { continuation in
                Thread.detachNewThread {
                    DispatchQueue.concurrentPerform(iterations: 4) { Self.fill(directory.path, $0, count / 4) }
                    continuation.resume()
                }
            }
            let written = ContinuousClock.now - start
            let end = ContinuousClock.now + .seconds(60)
            while directory.changes.count < count, ContinuousClock.now < end {
                try await Task.sleep(for: .milliseconds(20))
            }
            print("100,000 files written in \(written), all seen after \(ContinuousClock.now - start)")
            _ = try await directory.flushed()
            let changes = directory.changes.filter { !$0.key.hasPrefix("flush-") }
            #expect(changes.allSatisfy { $0.kind == .created && $0.state.sizeBytes == 5 })
            #expect(changes.count == count)
            #expect(Set(changes.map(\.key)).count == count)
        }
    }

    private static func fill(_ root: String, _ writer: Int, _ count: Int) {
        for index in 0..<count {
            let directory = "\(root)/\(writer)-\(index / 1000)"
            if index % 1000 == 0 { mkdir(directory, 0o755) }
            let file = open("\(directory)/file-\(index).txt", O_WRONLY | O_CREAT | O_CLOEXEC, 0o644)
            _ = write(file, "hello", 5)
            close(file)
        }
    }
}
