// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import CInotify
import Glibc

/// Tags of files: extended attributes whose names start with `user.`.
package enum ElementTags {
    /// The longest name, without the prefix, that file systems take.
    package static let nameBytesMax = 250
    /// The longest value that can be set here; file systems often allow less in all.
    package static let valueBytesMax = 4096

    private static let prefix = "user."

    /// All tags of an open file; nil where they cannot be read.
    static func read(descriptor: Int32) -> [String: String]? {
        read {
            martlet_list_attributes(descriptor, $0, $1)
        } value: {
            martlet_get_attribute(descriptor, $0, $1, $2)
        }
    }

    /// All tags of a file that is not a symbolic link; nil where they cannot be read.
    static func read(path: String) -> [String: String]? {
        read {
            martlet_list_attributes_at(path, $0, $1)
        } value: {
            martlet_get_attribute_at(path, $0, $1, $2)
        }
    }

    /// Sets one tag of an open file.
    static func set(_ name: String, _ value: String, descriptor: Int32, path: String) throws(ViewError) {
        let bytes = Array(value.utf8)
        guard martlet_set_attribute(descriptor, prefix + name, bytes, bytes.count) == 0 else {
            throw ViewError("set tag '\(name)' of", path: path, systemError: errno)
        }
    }

    /// Removes one tag of an open file; no error where there is none.
    static func remove(_ name: String, descriptor: Int32, path: String) throws(ViewError) {
        guard martlet_remove_attribute(descriptor, prefix + name) == 0 || errno == ENODATA else {
            throw ViewError("remove tag '\(name)' of", path: path, systemError: errno)
        }
    }

    private static func read(
        list: (UnsafeMutablePointer<CChar>?, Int) -> Int,
        value: (String, UnsafeMutableRawPointer?, Int) -> Int
    ) -> [String: String]? {
        let size = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 1024) { buffer -> (Int, [UInt8]) in
            let count = list(buffer.baseAddress, buffer.count)
            return (count, count > 0 ? buffer.prefix(count).map { UInt8(bitPattern: $0) } : [])
        }
        if size.0 == 0 { return [:] }
        if size.0 < 0, errno == ENOTSUP { return [:] }
        var names = size.1
        if size.0 < 0 {
            guard errno == ERANGE else { return nil }
            var buffer = [CChar](repeating: 0, count: 65_536)
            let count = list(&buffer, buffer.count)
            guard count >= 0 else { return nil }
            names = buffer.prefix(count).map { UInt8(bitPattern: $0) }
        }
        var tags: [String: String] = [:]
        for name in names.split(separator: 0) {
            let name = String(decoding: name, as: UTF8.self)
            guard name.hasPrefix(prefix), name.utf8.count > prefix.utf8.count else { continue }
            var buffer = [UInt8](repeating: 0, count: 256)
            var count = value(name, &buffer, buffer.count)
            if count < 0, errno == ERANGE {
                buffer = [UInt8](repeating: 0, count: 65_536)
                count = value(name, &buffer, buffer.count)
            }
            guard count >= 0 else { continue }
            tags[String(name.dropFirst(prefix.count))] = String(decoding: buffer[..<count], as: UTF8.self)
        }
        return tags
    }
}
