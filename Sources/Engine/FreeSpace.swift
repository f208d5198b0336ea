// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import Logging

/// Whether disks below the data directory are full.
enum FreeSpace {
    private static let bytesMin: UInt64 = 1 << 20
    private static let interval = Duration.seconds(5)

    /// Places on disks without room, one for each disk.
    static func full(_ layout: DataLayout) -> [String] {
        var seen: Set<dev_t> = []
        return [layout.root, layout.log, layout.tables].filter { path in
            var status = stat()
            guard stat(path, &status) == 0, seen.insert(status.st_dev).inserted else { return false }
            var space = statvfs()
            guard statvfs(path, &space) == 0 else { return false }
            return UInt64(space.f_bavail) * UInt64(space.f_frsize) < bytesMin
        }
    }

    /// Logs when a disk becomes full, and when it has room again, until the task is cancelled.
    static func watch(_ layout: DataLayout, _ logger: Logger) async {
        var known: Set<String> = []
        while !Task.isCancelled {
            let now = Set(full(layout))
            for path in now.subtracting(known).sorted() {
                logger.error("a disk is full: what needs room on it is refused", metadata: ["path": "\(path)"])
            }
            for path in known.subtracting(now).sorted() {
                logger.notice("a disk has room again", metadata: ["path": "\(path)"])
            }
            known = now
            do { try await Task.sleep(for: interval) } catch { return }
        }
    }
}
