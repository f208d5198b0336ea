// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// The rule for keys of elements.
package enum ElementKey {
    /// Whether a key names a place below a view: parts joined by single slashes, none of them empty, `.` or `..`.
    package static func isValid(_ key: String) -> Bool {
        guard (1...4096).contains(key.utf8.count), !key.utf8.contains(0) else { return false }
        return key.split(separator: "/", omittingEmptySubsequences: false).allSatisfy { part in
            !part.isEmpty && part != "." && part != ".." && part.utf8.count <= 255
        }
    }
}
