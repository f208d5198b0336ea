// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Glibc
package import MartletCore

/// The elements of a view as the file system has them now.
///
/// Blocks in the file system; symbolic links are never followed.
package struct ElementDirectory: Sendable {
    private let root: String

    /// Makes a reader of a view's directory.
    package init(root: String) {
        self.root = root
    }

    /// Elements in the order of their keys' bytes whose key starts with `prefix` and comes after `after`.
    package func elements(prefix: String, after: String?, limit: Int) throws -> [Element] {
        var found: [Element] = []
        try collect("", prefix: prefix, after: after.map { Array($0.utf8) }, limit: limit, into: &found)
        return found
    }

    /// One element.
    ///
    /// - Throws: `ServiceError` where there is none.
    package func element(_ key: String) throws -> Element {
        let descriptor = try open(key)
        defer { close(descriptor) }
        return try Self.element(key, descriptor)
    }

    /// Sets tags; those not named stay.
    package func tag(_ key: String, _ tags: [String: String]) throws -> Element {
        let descriptor = try open(key)
        defer { close(descriptor) }
        for (name, value) in tags.sorted(by: { $0.key < $1.key }) {
            try set { () throws(ViewError) in try ElementTags.set(name, value, descriptor: descriptor, path: key) }
        }
        return try Self.element(key, descriptor)
    }

    /// Removes tags; no error for those there are not.
    package func untag(_ key: String, _ names: [String]) throws -> Element {
        let descriptor = try open(key)
        defer { close(descriptor) }
        for name in names {
            try set { () throws(ViewError) in try ElementTags.remove(name, descriptor: descriptor, path: key) }
        }
        return try Self.element(key, descriptor)
    }

    private func set(_ change: () throws(ViewError) -> Void) throws(ServiceError) {
        do {
            try change()
        } catch {
            switch error.systemError {
            case ENOTSUP:
                throw ServiceError(
                    .failedPrecondition,
                    error.description,
                    fix: "tags need a file system with extended attributes, such as ext4, xfs or btrfs"
                )
            case ENOSPC, EDQUOT, E2BIG:
                throw ServiceError(
                    .storageFull,
                    error.description,
                    fix: "make values shorter or remove other tags; file systems allow about 4 KiB of tags per file"
                )
            case EACCES, EPERM, EROFS:
                throw ServiceError(
                    .forbidden,
                    error.description,
                    fix: "give the engine's user permission to write the file"
                )
            default: throw ServiceError(.internal, error.description)
            }
        }
    }

    /// Opens an element part by part, so that no symbolic link is followed on the way.
    private func open(_ key: String) throws(ServiceError) -> Int32 {
        guard ElementKey.isValid(key) else {
            throw .invalid(
                field: "key",
                "'\(key.prefix(200))' is not a key",
                fix: "write the path below the view with single slashes, without '.' and '..'"
            )
        }
        var parts = key.split(separator: "/").map(String.init)
        let name = parts.removeLast()
        var directory = Glibc.open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        for part in parts where directory >= 0 {
            let next = openat(directory, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            let error = errno
            close(directory)
            directory = next
            errno = error
        }
        guard directory >= 0 else { throw missing(key, errno) }
        let descriptor = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)
        let error = errno
        close(directory)
        guard descriptor >= 0 else { throw missing(key, error) }
        var info = stat()
        guard fstat(descriptor, &info) == 0, info.st_mode & S_IFMT == S_IFREG else {
            close(descriptor)
            throw missing(key, ENOENT)
        }
        return descriptor
    }

    private func missing(_ key: String, _ number: Int32) -> ServiceError {
        switch number {
        case ENOENT, ENOTDIR, ELOOP, ENXIO:
            ServiceError(
                .notFound,
                "no element '\(key)' in this view",
                fix: "list what exists with: martlet elements list"
            )
        default:
            ServiceError(
                .forbidden,
                "the element '\(key)' cannot be opened: \(ViewError.text(number))",
                fix: "give the engine's user permission to read it"
            )
        }
    }

    private static func element(_ key: String, _ descriptor: Int32) throws(ServiceError) -> Element {
        var info = stat()
        guard fstat(descriptor, &info) == 0 else {
            throw ServiceError(.internal, "the element '\(key)' cannot be read: \(ViewError.text(errno))")
        }
        return element(key, ElementState(info, tags: ElementTags.read(descriptor: descriptor) ?? [:]))
    }

    private static func element(_ key: String, _ state: ElementState) -> Element {
        Element(
            key: key,
            sizeBytes: state.sizeBytes,
            modifiedAt: Date(timeIntervalSince1970: Double(state.modifiedNanos / 1000) / 1_000_000),
            tags: state.tags
        )
    }

    /// Walks one directory in key order: a directory sorts as its name with a slash.
    private func collect(
        _ directory: String,
        prefix: String,
        after: [UInt8]?,
        limit: Int,
        into found: inout [Element]
    ) throws {
        let path = directory.isEmpty ? root : "\(root)/\(directory.dropLast())"
        guard let stream = opendir(path) else {
            guard directory.isEmpty else { return }
            throw ServiceError(
                .failedPrecondition,
                "the view's directory '\(root)' cannot be read: \(ViewError.text(errno))",
                fix: "check that it exists and that the engine's user may read it"
            )
        }
        var names: [[UInt8]] = []
        while let entry = readdir(stream) {
            if let name = Self.sortName(entry, in: path) { names.append(name) }
        }
        closedir(stream)
        let wanted = Array(prefix.utf8)
        let base = Array(directory.utf8)
        names.sort { $0.lexicographicallyPrecedes($1) }
        for name in names {
            guard found.count < limit else { return }
            let key = base + name
            let isDirectory = name.last == 0x2F
            guard key.starts(with: wanted) || (isDirectory && wanted.starts(with: key)) else { continue }
            if let after, !after.lexicographicallyPrecedes(key), !(isDirectory && after.starts(with: key)) { continue }
            let text = String(decoding: key, as: UTF8.self)
            if isDirectory {
                try collect(text, prefix: prefix, after: after, limit: limit, into: &found)
            } else {
                let path = "\(root)/\(text)"
                var info = stat()
                guard lstat(path, &info) == 0, info.st_mode & S_IFMT == S_IFREG else { continue }
                found.append(Self.element(text, ElementState(info, tags: ElementTags.read(path: path) ?? [:])))
            }
        }
    }

    private static func sortName(_ entry: UnsafeMutablePointer<dirent>, in path: String) -> [UInt8]? {
        let name = withUnsafeBytes(of: &entry.pointee.d_name) { Array($0.prefix { $0 != 0 }) }
        guard name != [0x2E], name != [0x2E, 0x2E], let text = String(validating: name, as: UTF8.self) else {
            return nil
        }
        switch Int(entry.pointee.d_type) {
        case Int(DT_REG): return name
        case Int(DT_DIR): return name + [0x2F]
        case Int(DT_UNKNOWN):
            var info = stat()
            guard lstat("\(path)/\(text)", &info) == 0 else { return nil }
            switch info.st_mode & S_IFMT {
            case S_IFREG: return name
            case S_IFDIR: return name + [0x2F]
            default: return nil
            }
        default: return nil
        }
    }
}
