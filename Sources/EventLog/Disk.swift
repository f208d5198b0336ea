// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Operations on directories and whole files, each durable on return.
enum Disk {
    static func error(_ number: Int32, _ action: String, _ path: String) -> EventLogError {
        let reason = String(cString: strerror(number))
        switch number {
        case ENOSPC, EDQUOT, EFBIG:
            return EventLogError(
                .diskFull,
                "\(action) \(path): \(reason); free some space, appends then work again",
                path: path,
                systemError: number
            )
        case EMFILE:
            return EventLogError(
                .inputOutput,
                "\(action) \(path): \(reason); this process may have \(OpenFileLimit.current) open: raise its hard limit "
                    + "(ulimit -Hn, or LimitNOFILE= of a systemd unit) and start it again",
                path: path,
                systemError: number
            )
        case ENFILE:
            return EventLogError(
                .inputOutput,
                "\(action) \(path): \(reason); the machine has as many open as it may: raise fs.file-max",
                path: path,
                systemError: number
            )
        default:
            return EventLogError(.inputOutput, "\(action) \(path): \(reason)", path: path, systemError: number)
        }
    }

    static func exists(_ path: String) -> Bool {
        access(path, F_OK) == 0
    }

    /// Creates a directory; its entry is not flushed.
    ///
    /// No error when it is there.
    static func makeDirectory(_ path: String) throws(EventLogError) {
        guard mkdir(path, 0o750) != 0, errno != EEXIST else { return }
        throw error(errno, "cannot create directory", path)
    }

    /// Creates a directory with its parents and flushes every entry made.
    static func makeDirectories(_ path: String) throws(EventLogError) {
        if exists(path) { return }
        let parent = parent(of: path)
        if parent != path { try makeDirectories(parent) }
        try makeDirectory(path)
        try synchronizeDirectory(parent)
    }

    static func parent(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    static func synchronizeDirectory(_ path: String) throws(EventLogError) {
        try OpenDirectory(path).synchronize()
    }

    /// Returns the names in a directory, ordered, without `.` and `..`.
    static func names(in path: String) throws(EventLogError) -> [String] {
        guard let stream = opendir(path) else { throw error(errno, "cannot list directory", path) }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    static func rename(_ from: String, to target: String) throws(EventLogError) {
        guard Glibc.rename(from, target) == 0 else { throw error(errno, "cannot rename to \(target)", from) }
    }

    static func remove(_ path: String) throws(EventLogError) {
        guard unlink(path) != 0, errno != ENOENT else { return }
        throw error(errno, "cannot delete", path)
    }

    /// Removes a directory and everything below it.
    static func removeTree(_ path: String) throws(EventLogError) {
        for name in try names(in: path) {
            let child = "\(path)/\(name)"
            var info = stat()
            if lstat(child, &info) == 0, info.st_mode & S_IFMT == S_IFDIR {
                try removeTree(child)
            } else {
                try remove(child)
            }
        }
        guard rmdir(path) == 0 else { throw error(errno, "cannot delete directory", path) }
    }

    /// Replaces a file: temporary file, flush, rename, flush of the directory.
    ///
    /// Returns the new file, open for reading and writing. After an error the new one may be there, and not last.
    @discardableResult
    static func replace(_ path: String, with bytes: [UInt8]) throws(EventLogError) -> DiskFile {
        let directory = try OpenDirectory(parent(of: path))
        let file = try writeNew(path, bytes, flushes: true)
        try directory.synchronize()
        return file
    }

    /// Replaces a file that can be rebuilt: atomic for readers, not flushed.
    static func replaceUnflushed(_ path: String, with bytes: [UInt8]) throws(EventLogError) {
        _ = try writeNew(path, bytes, flushes: false)
    }

    /// Replaces a file by one whose content is flushed; after a power failure the earlier one may be back.
    static func replaceUnlisted(_ path: String, with bytes: [UInt8]) throws(EventLogError) {
        _ = try writeNew(path, bytes, flushes: true)
    }

    static func readWhole(_ path: String) throws(EventLogError) -> [UInt8] {
        let file = try DiskFile(path: path, flags: O_RDONLY)
        return try file.read(at: 0, count: Int(try file.size()))
    }

    private static func writeNew(_ path: String, _ bytes: [UInt8], flushes: Bool) throws(EventLogError) -> DiskFile {
        let temporary = path + ".tmp"
        do {
            let file = try DiskFile(path: temporary, flags: O_RDWR | O_CREAT | O_TRUNC, name: path)
            try file.write(bytes, at: 0)
            if flushes { try file.synchronize() }
            try rename(temporary, to: path)
            return file
        } catch {
            unlink(temporary)
            throw error
        }
    }
}
