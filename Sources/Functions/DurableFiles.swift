// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Glibc
import MartletCore

/// Files that are on disk when the call returns; every call blocks.
enum DurableFiles {
    /// Writes a new file and syncs it.
    static func write(_ bytes: some Collection<UInt8>, to path: String, mode: mode_t = 0o644, syncs: Bool = true) throws
    {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
        guard descriptor >= 0 else { throw failure("create", path) }
        defer { close(descriptor) }
        let written: Bool? = bytes.withContiguousStorageIfAvailable { buffer in
            var offset = 0
            while offset < buffer.count {
                let count = Glibc.write(descriptor, buffer.baseAddress?.advanced(by: offset), buffer.count - offset)
                if count < 0 {
                    if errno == EINTR { continue }
                    return false
                }
                offset += count
            }
            return true
        }
        guard written == true else { throw failure("write", path) }
        guard !syncs || fsync(descriptor) == 0 else { throw failure("sync", path) }
    }

    /// Replaces a small file atomically.
    static func replace(_ path: String, with bytes: [UInt8]) throws {
        let temporary = "\(path).\(UUID().uuidString.lowercased())"
        try write(bytes, to: temporary)
        try move(temporary, to: path)
    }

    /// Renames and syncs the directory the name is in.
    static func move(_ source: String, to target: String) throws {
        guard rename(source, target) == 0 else { throw failure("rename to", target) }
        try syncDirectory((target as NSString).deletingLastPathComponent)
    }

    /// Makes the names in a directory durable.
    static func syncDirectory(_ path: String) throws {
        let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure("open", path) }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw failure("sync", path) }
    }

    /// Makes a tree durable: entry by entry while there are few, because syncing the file system waits for everybody's writes too.
    static func syncTree(_ directory: String) throws {
        let paths = try FileManager.default.subpathsOfDirectory(atPath: directory)
        guard paths.count <= 500 else { return try syncFileSystem(of: directory) }
        for path in paths { try syncEntry("\(directory)/\(path)") }
        try syncDirectory(directory)
    }

    /// Makes the content of a file, or the names in a directory, durable; a link is durable with its directory.
    private static func syncEntry(_ path: String) throws {
        let descriptor = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC)
        guard descriptor >= 0 else {
            if errno == ELOOP { return }
            throw failure("open", path)
        }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw failure("sync", path) }
    }

    /// Makes everything on the file system of a directory durable, which is faster than syncing thousands of files.
    private static func syncFileSystem(of path: String) throws {
        let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure("open", path) }
        defer { close(descriptor) }
        guard syncFileSystem(descriptor) == 0 else { throw failure("sync", path) }
    }

    /// Makes a directory and those above it.
    static func makeDirectory(_ path: String) throws {
        do {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        } catch {
            let isFull = (error as? CocoaError)?.code == .fileWriteOutOfSpace
            throw ServiceError(
                isFull ? .storageFull : .failedPrecondition,
                "cannot make the directory \(path): \(error.localizedDescription)",
                fix: "check free space and permissions of the data directory"
            )
        }
    }

    /// `syncfs`, which Glibc's module leaves out although the library has it since 2.14; `sync` where it is missing.
    private static func syncFileSystem(_ descriptor: Int32) -> Int32 {
        guard let symbol = dlsym(nil, "syncfs") else {
            sync()
            return 0
        }
        // SAFETY: syncfs(2) is `int syncfs(int fd)` in every C library that has it.
        return unsafeBitCast(symbol, to: (@convention(c) (Int32) -> Int32).self)(descriptor)
    }

    /// The content of a file, or nil where there is none.
    static func read(_ path: String) throws -> [UInt8]? {
        guard FileManager.default.fileExists(atPath: path) else { return nil }
        return Array(try Data(contentsOf: URL(fileURLWithPath: path)))
    }

    /// The last failed call as a service error.
    static func failure(_ action: String, _ path: String) -> ServiceError {
        let number = errno
        let reason = String(cString: strerror(number))
        let code: ServiceError.Code =
            switch number {
            case ENOSPC, EDQUOT: .storageFull
            case EROFS, EACCES, EPERM: .failedPrecondition
            default: .internal
            }
        return ServiceError(
            code,
            "cannot \(action) \(path): \(reason)",
            fix: "check free space and permissions of the data directory"
        )
    }
}
