// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Glibc

/// A directory opened in front of a change of its names, so that flushing them needs no file that the process may not get any more.
struct OpenDirectory: ~Copyable {
    private let path: String
    private let descriptor: Int32

    init(_ path: String) throws(EventLogError) {
        self.path = path
        descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw Disk.error(errno, "cannot open directory", path) }
    }

    /// Opens it; where the process may have no more files, those that nobody is using are closed first.
    init(_ path: String, closing files: OpenFiles) throws(EventLogError) {
        do throws(EventLogError) {
            self = try OpenDirectory(path)
        } catch {
            guard error.isOutOfFiles else { throw error }
            files.closeAll()
            self = try OpenDirectory(path)
        }
    }

    deinit { close(descriptor) }

    /// Flushes the names in it.
    borrowing func synchronize() throws(EventLogError) {
        guard fsync(descriptor) == 0 else { throw Disk.error(errno, "cannot flush directory", path) }
    }
}
