// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore

/// A function's folder on disk, as it is sent to the engine.
package enum FunctionFolder {
    /// Names of files and directories that are never part of a function.
    private static let junkNames: Set<String> = [
        ".git", ".hg", ".svn", ".gitignore", ".venv", "venv", "__pycache__", ".mypy_cache", ".pytest_cache",
        ".ruff_cache",
        ".tox", ".idea", ".vscode", "node_modules", ".DS_Store",
    ]
    private static let junkEndings = [".pyc", ".pyo", ".swp", "~"]

    /// Whether a path is left out of archives and bundles.
    package static func isJunk(_ path: String) -> Bool {
        path.split(separator: "/").contains { part in
            junkNames.contains(String(part)) || junkEndings.contains { part.hasSuffix($0) }
                || part.hasSuffix(".egg-info")
        }
    }

    /// The archive of a folder, junk left out; blocks.
    ///
    /// - Throws: `.notFound`, `.invalid` for links that leave the folder and for what is no file, `.tooLarge`.
    package static func archive(_ folder: String) throws -> [UInt8] {
        try TarArchive.write(try files(folder))
    }

    /// The files of a folder, sorted by path, junk left out; blocks.
    static func files(_ folder: String) throws -> [TarArchive.File] {
        let root = URL(fileURLWithPath: folder).resolvingSymlinksInPath().path
        var isDirectory: ObjCBool = false
        guard FileManager.default.fileExists(atPath: root, isDirectory: &isDirectory), isDirectory.boolValue else {
            throw ServiceError(
                .notFound,
                "there is no folder \(folder)",
                fix: "name the folder of the function with --target"
            )
        }
        var files: [TarArchive.File] = []
        var total = 0
        var pending = [""]
        while let relative = pending.popLast() {
            let directory = relative.isEmpty ? root : "\(root)/\(relative)"
            for name in try FileManager.default.contentsOfDirectory(atPath: directory) {
                let path = relative.isEmpty ? name : "\(relative)/\(name)"
                guard !isJunk(name) else { continue }
                switch try kind("\(root)/\(path)", path, root: root) {
                case .directory: pending.append(path)
                case .file(let isExecutable):
                    let data = try Data(contentsOf: URL(fileURLWithPath: "\(root)/\(path)"))
                    total += data.count
                    guard total <= TarArchive.bytesMax, files.count < TarArchive.entriesMax else {
                        throw TarArchive.tooLarge(
                            "the folder \(folder) has more than \(files.count) files with \(total) bytes"
                        )
                    }
                    files.append(TarArchive.File(path: path, content: Array(data), isExecutable: isExecutable))
                }
            }
        }
        return files.sorted { $0.path.utf8.lexicographicallyPrecedes($1.path.utf8) }
    }

    private enum Kind {
        case directory
        case file(isExecutable: Bool)
    }

    private static func kind(_ full: String, _ path: String, root: String) throws -> Kind {
        let attributes = try FileManager.default.attributesOfItem(atPath: full)
        let isExecutable = (attributes[.posixPermissions] as? Int ?? 0) & 0o100 != 0
        switch attributes[.type] as? FileAttributeType {
        case .typeDirectory: return .directory
        case .typeRegular: return .file(isExecutable: isExecutable)
        case .typeSymbolicLink:
            let target = URL(fileURLWithPath: full).resolvingSymlinksInPath().path
            var isDirectory: ObjCBool = false
            let exists = FileManager.default.fileExists(atPath: target, isDirectory: &isDirectory)
            guard exists, !isDirectory.boolValue, target.hasPrefix(root + "/") else {
                throw ServiceError(
                    .invalid,
                    "'\(path)' is a link to \(target), which is no file of this folder",
                    fix: "copy what it links to into the folder"
                )
            }
            return .file(isExecutable: isExecutable)
        default:
            throw ServiceError(
                .invalid,
                "'\(path)' is neither a file nor a directory",
                fix: "move it out of the folder"
            )
        }
    }
}
