// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization

/// Ownership of a data directory by this process, through `flock` on `<data>/martlet.lock`.
///
/// Held until ``release()``, deinit or the end of the process, however it ends. The file holds the owner's process id.
package final class DataDirectoryLock: Sendable {
    private let file: Mutex<DiskFile?>

    /// Creates the directory where needed and takes ownership; blocks for up to a second where the owner has just died.
    ///
    /// - Throws: `.dataDirectoryInUse` naming directory and owner, `.inputOutput` when the directory cannot be written.
    package init(directory: String) throws(EventLogError) {
        try Disk.makeDirectories(directory)
        let path = "\(directory)/martlet.lock"
        let file = try DiskFile(path: path, flags: O_RDWR | O_CREAT)
        let deadline = ContinuousClock.now + .seconds(1)
        while flock(file.descriptor, LOCK_EX | LOCK_NB) != 0 {
            let number = errno
            guard number == EWOULDBLOCK else { throw Disk.error(number, "cannot lock", path) }
            let text = String(decoding: (try? file.read(at: 0, count: 32)) ?? [], as: UTF8.self)
            let id = pid_t(text.prefix { $0.isNumber })
            // A child of a killed engine shares its lock between fork and exec; that passes by itself.
            if let id, kill(id, 0) != 0, errno == ESRCH, ContinuousClock.now < deadline {
                usleep(20_000)
                continue
            }
            let owner = id.map { "process \($0)" } ?? "another process"
            throw EventLogError(
                .dataDirectoryInUse,
                "the data directory \(directory) is in use by \(owner); stop that engine first, "
                    + "or start this one with another data directory",
                path: directory
            )
        }
        try file.truncate(to: 0)
        try file.write(Array("\(getpid())\n".utf8), at: 0)
        self.file = Mutex(file)
    }

    /// Gives the directory up; the lock file stays.
    package func release() {
        file.withLock { $0 = nil }
    }
}
