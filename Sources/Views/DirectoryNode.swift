// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// A directory of a view: its files and directories as last seen.
final class DirectoryNode {
    /// A file as last seen.
    struct File {
        var state: ElementState
        /// Whether the file may have been written again without its times changing since it was looked at.
        var isRecent: Bool
    }

    let name: String
    /// Key of the directory with a slash behind it; empty for the view's root.
    let prefix: String
    var files: [String: File] = [:]
    var directories: [String: DirectoryNode] = [:]
    /// The inotify watch; nil where there is none.
    var watch: Int32?

    init(name: String, prefix: String) {
        self.name = name
        self.prefix = prefix
    }

    func directory(_ name: String) -> DirectoryNode {
        if let known = directories[name] { return known }
        let node = DirectoryNode(name: name, prefix: "\(prefix)\(name)/")
        directories[name] = node
        return node
    }

    /// Puts a file known by its key below this directory.
    func insert(_ key: String, _ state: ElementState) {
        var node = self
        var parts = key.split(separator: "/")
        guard let name = parts.popLast() else { return }
        for part in parts { node = node.directory(String(part)) }
        node.files[String(name)] = File(state: state, isRecent: false)
    }
}
