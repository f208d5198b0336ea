// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Glibc

/// What the file system says of a path.
enum DirectoryStatus {
    /// Whether `path` is a directory, not a link to one.
    static func isDirectory(_ path: String) -> Bool {
        attributes(path)?[.type] as? FileAttributeType == .typeDirectory
    }

    /// Whether `path` is a directory or a link to one.
    static func leadsToDirectory(_ path: String) -> Bool {
        var isDirectory: ObjCBool = false
        return FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) && isDirectory.boolValue
    }

    /// Whether it also belongs to this user.
    static func isOwnDirectory(_ path: String) -> Bool {
        isDirectory(path) && attributes(path)?[.ownerAccountID] as? Int == Int(getuid())
    }

    private static func attributes(_ path: String) -> [FileAttributeKey: Any]? {
        try? FileManager.default.attributesOfItem(atPath: path)  // A path that is not there is not a directory.
    }
}
