// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing
import Views

@Suite(.serialized, .timeLimit(.minutes(2)))
struct ManyFilesTests {
    /// Four writers fill 100 directories as fast as the system lets them; the kernel's queue overflows on the way.
    @Test func hundredThousandFilesAtOnceLoseNoneAndRepeatNone() async throws {
        let count = 100_000
        try await WatchedDirectory.with { directory async throws in
            let start = ContinuousClock.now
            await withTaskGroup(of: Void.self) { group in
                for writer in 0..<4 { group.addTask { Self.fill(directory.path, writer, count / 4) } }
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
