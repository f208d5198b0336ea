// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Glibc

extension ViewIndex {
    /// Compares everything with what is known and watches every directory.
    func scanAll() {
        needsScan = false
        unreadableNames = 0
        limits.removeAll()
        scan(tree)
    }

    /// Watches a directory and those below it, and reports how they differ from what is known.
    ///
    /// The watch comes before the look, so that nothing falls between them.
    func scan(_ start: DirectoryNode) {
        var rest = [start]
        while let node = rest.popLast(), !isRootGone { rest += scanOne(node) }
        mark()
    }

    /// Scans one directory and returns those in it.
    private func scanOne(_ node: DirectoryNode) -> [DirectoryNode] {
        let path = path(node)
        guard watch(node, path) else { return [] }
        guard let directory = opendir(path) else {
            if errno == ENOENT || errno == ENOTDIR {
                if node === tree { isRootGone = true }
            } else {
                limits[node.prefix] = ViewError("read", path: path, systemError: errno)
            }
            return []
        }
        defer { closedir(directory) }
        var files: Set<String> = []
        var directories: Set<String> = []
        errno = 0
        while let entry = readdir(directory) {
            guard let name = Self.name(entry) else {
                unreadableNames += 1
                continue
            }
            guard name != ".", name != ".." else { continue }
            switch Self.kind(entry, at: "\(root)/\(node.prefix)\(name)") {
            case S_IFREG:
                files.insert(name)
                compare(node, name)
                if files.count % 512 == 0 { pauseInScan() }
            case S_IFDIR: directories.insert(name)
            default: break
            }
            errno = 0
        }
        guard errno == 0 else {
            limits[node.prefix] = ViewError("read", path: path, systemError: errno)
            return []
        }
        removeVanished(node, files: files, directories: directories)
        pauseInScan()
        return directories.sorted().map { node.directory($0) }
    }

    /// Keeps the kernel's queue from filling up and hands on what was found.
    private func pauseInScan() {
        drain()
        if batch.changes.count >= 2048 { flush() }
    }

    private func compare(_ node: DirectoryNode, _ name: String) {
        guard let known = node.files[name] else {
            examine(node, name, .scan)
            return
        }
        let path = path(node, name)
        var info = stat()
        if lstat(path, &info) == 0, info.st_mode & S_IFMT == S_IFREG {
            let state = ElementState(info, tags: known.state.tags)
            if state.hasSameContent(as: known.state) {
                let isUnchanged = ElementTags.read(path: path).map { $0 == known.state.tags } ?? true
                if isUnchanged { return }
            }
        }
        examine(node, name, .scan)
    }

    private func removeVanished(_ node: DirectoryNode, files: Set<String>, directories: Set<String>) {
        for name in node.files.keys.sorted() where !files.contains(name) {
            // A name that is moved while the directory is read may be missed by it.
            var info = stat()
            if lstat(path(node, name), &info) == 0, info.st_mode & S_IFMT == S_IFREG { continue }
            forget(node, name, isFromScan: true)
        }
        for name in node.directories.keys.sorted() where !directories.contains(name) {
            if !Self.isDirectory(path(node, name)) { dropDirectory(node, name) }
        }
    }

    /// Watches a directory; false where it is not there.
    private func watch(_ node: DirectoryNode, _ path: String) -> Bool {
        guard let queue else { return false }
        if let limit = settings.watchesMax, nodes.count >= limit, node.watch == nil {
            limits[node.prefix] = ViewError("watch", path: path, systemError: ENOSPC)
            return true
        }
        switch queue.add(path, Self.watchMask) {
        case .success(let watch):
            if let old = node.watch, old != watch, nodes[old] === node {
                nodes.removeValue(forKey: old)
                queue.remove(old)
            }
            if let other = nodes[watch], other !== node { other.watch = nil }
            nodes[watch] = node
            node.watch = watch
            return true
        case .failure(let error):
            if error.systemError == ENOENT || error.systemError == ENOTDIR {
                if node === tree { isRootGone = true }
                return false
            }
            limits[node.prefix] = error
            return true
        }
    }

    /// Gives up all watches; what is known stays.
    func unwatch() {
        for node in nodes.values { node.watch = nil }
        nodes.removeAll()
        markers.removeAll()
        backlog.removeAll()
        newFiles = DelayedChecks()
        openFiles = DelayedChecks()
        queue = nil
        isRootGone = false
        needsScan = false
    }

    private static func name(_ entry: UnsafeMutablePointer<dirent>) -> String? {
        withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
            String(validating: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
    }

    private static func kind(_ entry: UnsafeMutablePointer<dirent>, at path: String) -> mode_t {
        switch Int(entry.pointee.d_type) {
        case Int(DT_REG): return S_IFREG
        case Int(DT_DIR): return S_IFDIR
        case Int(DT_UNKNOWN):
            var info = stat()
            return lstat(path, &info) == 0 ? info.st_mode & S_IFMT : 0
        default: return 0
        }
    }
}
