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

    /// The folder of all files of rows or of rejects, those kept only for AS OF among them; what the engine reads.
    func folder(_ part: AppendTableFile.Part) -> String { root + "/files/" + Self.name(part) }

    /// The folder of links to the files of the last commit and no others; what programs outside read.
    func published(_ part: AppendTableFile.Part) -> String { root + "/" + Self.name(part) }

    private static func name(_ part: AppendTableFile.Part) -> String { part == .rows ? "rows" : "rejects" }

    func absolute(_ path: String) -> String { root + "/" + path }

    /// The path below the table's folder, as the catalog keeps it.
    func relative(_ path: String) -> String {
        path.hasPrefix(root + "/") ? String(path.dropFirst(root.utf8.count + 1)) : path
    }

    /// Makes the folders, durable on return.
    func make() throws {
        for part in AppendTableFile.Part.allCases {
            for path in [folder(part), published(part)] {
                try FileManager.default.createDirectory(
                    atPath: path,
                    withIntermediateDirectories: true,
                    attributes: [.posixPermissions: 0o755]
                )
            }
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

    /// Shows files of a commit to programs outside, and hides those that left with it.
    ///
    /// The links are no more than a picture of the last commit: ``republish(_:)`` draws it anew when the engine starts. So a commit
    /// does not fail because of one; a repair makes it again and says why that fails.
    func publish(added: [String], removed: [String]) {
        for path in added { try? link(path) }
        for path in removed { unlinkAndPrune(linkPath(path)) }
    }

    /// Shows one file to programs outside, in place of another that may have its name there.
    ///
    /// - Throws: `.unavailable` or `.storageFull` with the system's reason.
    func link(_ path: String) throws(ServiceError) {
        let link = linkPath(path)
        let parent = URL(fileURLWithPath: link).deletingLastPathComponent().path
        // A folder that cannot be made shows in the link that fails.
        try? FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: true)
        if Glibc.link(absolute(path), link) == 0 { return }
        if errno == EEXIST {
            if isPublished(path) { return }
            unlink(link)
            if Glibc.link(absolute(path), link) == 0 { return }
        }
        throw Self.failure("cannot be made", link)
    }

    /// Whether programs outside see this very file.
    func isPublished(_ path: String) -> Bool {
        var (own, shown) = (stat(), stat())
        guard stat(absolute(path), &own) == 0, stat(linkPath(path), &shown) == 0 else { return false }
        return own.st_ino == shown.st_ino && own.st_dev == shown.st_dev
    }

    /// Makes the links those of exactly these files.
    func republish(_ paths: [String]) {
        let wanted = Set(paths.map(publishedPath))
        let present = Set(files().keys.filter { $0.hasPrefix("rows/") || $0.hasPrefix("rejects/") })
        for path in present.subtracting(wanted) { unlinkAndPrune(absolute(path)) }
        publish(added: paths.filter { !present.contains(publishedPath($0)) }, removed: [])
    }

    /// Brings a file back from the link that programs outside read; durable on return.
    func restore(_ path: String) throws {
        let parent = URL(fileURLWithPath: absolute(path)).deletingLastPathComponent().path
        try FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: true)
        guard Glibc.link(linkPath(path), absolute(path)) == 0 || errno == EEXIST else {
            throw Self.failure("cannot be made", absolute(path))
        }
        try synchronize([absolute(path)])
    }

    /// Moves a file out of the way of everybody who reads the table, and keeps it in `damaged/`.
    func setAside(_ path: String) throws {
        let target = absolute("damaged/" + path.split(separator: "/").joined(separator: "."))
        try FileManager.default.createDirectory(atPath: absolute("damaged"), withIntermediateDirectories: true)
        guard rename(absolute(path), target) == 0 else { throw Self.failure("cannot be moved", absolute(path)) }
    }

    /// Deletes a file that no commit has.
    ///
    /// - Throws: where it is still there afterwards.
    func delete(_ path: String) throws(ServiceError) {
        guard unlink(absolute(path)) == 0 || errno == ENOENT else {
            throw Self.failure("cannot be deleted", absolute(path))
        }
        unlinkAndPrune(absolute(path))
    }

    /// Where programs outside find a file, `files/rows/…` as `rows/…`.
    func publishedPath(_ path: String) -> String {
        path.hasPrefix("files/") ? String(path.dropFirst("files/".utf8.count)) : path
    }

    private func linkPath(_ path: String) -> String { absolute(publishedPath(path)) }

    /// The folder of a partition goes with its last file; rmdir refuses any other.
    private func unlinkAndPrune(_ path: String) {
        unlink(path)
        let parent = URL(fileURLWithPath: path).deletingLastPathComponent().path
        let kept = AppendTableFile.Part.allCases.flatMap { [folder($0), published($0)] }
        if !kept.contains(parent) { rmdir(parent) }
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
        for path in paths { unlinkAndPrune(absolute(path)) }
    }

    private static func synchronize(_ path: String) throws {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw failure("cannot be made durable", path) }
        defer { close(file) }
        guard fsync(file) == 0 else { throw failure("cannot be made durable", path) }
    }

    private static func failure(_ what: String, _ path: String) -> ServiceError {
        let code = errno
        return ServiceError(
            code == ENOSPC || code == EDQUOT ? .storageFull : .unavailable,
            "\(path) \(what): \(String(cString: strerror(code)))",
            fix: "look at the disk of the data directory"
        )
    }
}
