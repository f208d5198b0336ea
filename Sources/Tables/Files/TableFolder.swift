// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import Foundation
import Glibc
import MartletCore

/// Where the files of one append table lie.
struct TableFolder: Sendable {
    /// Absolute path of the table's folder.
    let root: String

    init(root: String) {
        self.root = root
    }

    /// The folder of rows or of rejects.
    func folder(_ part: AppendTableFile.Part) -> String {
        switch part {
        case .rows: root + "/rows"
        case .rejects: root + "/rejects"
        }
    }

    func absolute(_ path: String) -> String { root + "/" + path }

    /// The path below the table's folder, as the catalog keeps it.
    func relative(_ path: String) -> String {
        path.hasPrefix(root + "/") ? String(path.dropFirst(root.utf8.count + 1)) : path
    }

    /// Makes the folders, durable on return.
    func make() throws {
        for part in AppendTableFile.Part.allCases {
            try FileManager.default.createDirectory(
                atPath: folder(part),
                withIntermediateDirectories: true,
                attributes: [.posixPermissions: 0o755]
            )
        }
        try Self.synchronize(root)
        try Self.synchronize(URL(fileURLWithPath: root).deletingLastPathComponent().path)
    }

    /// Makes files and the folders above them durable.
    func synchronize(_ paths: [String]) throws {
        var folders = Set<String>()
        for path in paths {
            try Self.synchronize(path)
            var folder = URL(fileURLWithPath: path).deletingLastPathComponent().path
            // The root itself has nothing new: ``make()`` made the folders in it durable.
            while folder.utf8.count > root.utf8.count {
                folders.insert(folder)
                folder = URL(fileURLWithPath: folder).deletingLastPathComponent().path
            }
        }
        for folder in folders.sorted() { try Self.synchronize(folder) }
    }

    /// All files below the folder, by path relative to it, with their sizes.
    func files() -> [String: Int64] {
        var found: [String: Int64] = [:]
        guard let walk = FileManager.default.enumerator(atPath: root) else { return [:] }
        for case let path as String in walk {
            let attributes = walk.fileAttributes
            guard attributes?[.type] as? FileAttributeType == .typeRegular else { continue }
            found[path] = (attributes?[.size] as? NSNumber)?.int64Value ?? 0
        }
        return found
    }

    /// Deletes files; one that is gone already is no error.
    func remove(_ paths: some Sequence<String>) {
        for path in paths {
            unlink(absolute(path))
            // The folder of a partition goes with its last file; rmdir refuses any other.
            let folder = URL(fileURLWithPath: absolute(path)).deletingLastPathComponent().path
            if folder != self.folder(.rows), folder != self.folder(.rejects) { rmdir(folder) }
        }
    }

    private static func synchronize(_ path: String) throws {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw failure(path) }
        defer { close(file) }
        guard fsync(file) == 0 else { throw failure(path) }
    }

    private static func failure(_ path: String) -> ServiceError {
        let code = errno
        return ServiceError(
            code == ENOSPC || code == EDQUOT ? .storageFull : .unavailable,
            "\(path) cannot be made durable: \(String(cString: strerror(code)))",
            fix: "look at the disk of the data directory"
        )
    }
}
