// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Glibc

/// The state of one view's watcher: the directory as last seen, the watches on it and what is to be looked at again.
///
/// Belongs to the watcher's thread. Notifications say what happened; a scan only sees what is there. Notifications that were queued
/// before a scan looked at a file may tell of it a second time, so until the kernel has passed a marker put behind the scan they are
/// taken as hints: the file is compared with what is known, as the scan does.
final class ViewIndex {
    let root: String
    let settings: ViewWatchSettings
    let tree = DirectoryNode(name: "", prefix: "")
    var batch = ElementBatch()
    var queue: InotifyQueue?
    var nodes: [Int32: DirectoryNode] = [:]
    /// Notifications read but not yet handled.
    var backlog: [InotifyEvent] = []
    var newFiles = DelayedChecks()
    var openFiles = DelayedChecks()
    /// Markers put behind scans that the kernel has not passed yet.
    var markers: Set<Int32> = []
    var needsScan = false
    var isRootGone = false
    /// Directories without a watch or that cannot be read, with the reason.
    var limits: [String: ViewError] = [:]
    /// Names that are not UTF-8.
    var unreadableNames = 0
    /// Called with what was found while a scan goes on.
    var flush: () -> Void = {}

    static let watchMask =
        UInt32(IN_CREATE) | UInt32(IN_CLOSE_WRITE) | UInt32(IN_MOVED_FROM) | UInt32(IN_MOVED_TO) | UInt32(IN_DELETE)
        | UInt32(IN_ATTRIB) | UInt32(IN_DELETE_SELF) | UInt32(IN_MOVE_SELF) | UInt32(IN_ONLYDIR)
        | UInt32(IN_DONT_FOLLOW)

    init(root: String, settings: ViewWatchSettings) {
        self.root = root
        self.settings = settings
    }

    var isStale: Bool { !markers.isEmpty }

    func path(_ node: DirectoryNode, _ name: String = "") -> String {
        node.prefix.isEmpty && name.isEmpty ? root : "\(root)/\(node.prefix)\(name)"
    }

    // MARK: Notifications

    /// Takes everything the kernel has and handles it; whether there was anything.
    func handleWaiting() -> Bool {
        drain()
        guard !backlog.isEmpty else { return false }
        let events = backlog
        backlog.removeAll(keepingCapacity: true)
        for event in events {
            handle(event)
            if batch.changes.count >= 2048 { flush() }
        }
        return true
    }

    func drain() {
        guard let queue else { return }
        while backlog.count < settings.backlogMax {
            let events = queue.read()
            guard !events.isEmpty else { return }
            backlog.append(contentsOf: events)
        }
    }

    private func handle(_ event: InotifyEvent) {
        if event.has(Int32(IN_Q_OVERFLOW)) {
            needsScan = true
            return
        }
        guard let node = nodes[event.watch] else {
            if event.has(Int32(IN_IGNORED)) { markers.remove(event.watch) }
            return
        }
        if event.has(Int32(IN_UNMOUNT)) || event.has(Int32(IN_DELETE_SELF)) || event.has(Int32(IN_MOVE_SELF)) {
            if node === tree { isRootGone = true }
            return
        }
        if event.has(Int32(IN_IGNORED)) {
            nodes.removeValue(forKey: event.watch)
            node.watch = nil
            if node === tree { isRootGone = true }
            return
        }
        guard let name = event.name else {
            unreadableNames += 1
            return
        }
        guard !name.isEmpty else { return }
        if event.isDirectory { handleDirectory(event, node, name) } else { handleFile(event, node, name) }
    }

    private func handleDirectory(_ event: InotifyEvent, _ node: DirectoryNode, _ name: String) {
        if event.has(Int32(IN_CREATE)) || event.has(Int32(IN_MOVED_TO)) {
            let isKnown = node.directories[name]?.watch != nil
            if isStale, isKnown, event.has(Int32(IN_CREATE)) { return }
            scan(node.directory(name))
        } else if event.has(Int32(IN_DELETE)) || event.has(Int32(IN_MOVED_FROM)) {
            if isStale, Self.isDirectory(path(node, name)) { return }
            dropDirectory(node, name)
        } else if event.has(Int32(IN_ATTRIB)), let known = node.directories[name], limits[known.prefix] != nil {
            scan(known)
        }
    }

    private func handleFile(_ event: InotifyEvent, _ node: DirectoryNode, _ name: String) {
        if event.has(Int32(IN_CLOSE_WRITE)) || event.has(Int32(IN_MOVED_TO)) {
            newFiles.remove(node, name)
            examine(node, name, .notified(isClosed: true))
        } else if event.has(Int32(IN_DELETE)) || event.has(Int32(IN_MOVED_FROM)) {
            newFiles.remove(node, name)
            openFiles.remove(node, name)
            if isStale { examine(node, name, .notified(isClosed: false)) } else { handleGone(node, name) }
        } else if event.has(Int32(IN_CREATE)) {
            var info = stat()
            guard lstat(path(node, name), &info) == 0, info.st_mode & S_IFMT == S_IFREG else { return }
            if info.st_nlink > 1 {
                examine(node, name, .notified(isClosed: false))
            } else {
                newFiles.add(node, name, due: WallClock.monotonicNanos() + settings.newFileDelay.nanos)
            }
        } else if event.has(Int32(IN_ATTRIB)) {
            examineAttributes(node, name)
        }
    }

    /// Handles a removed name.
    ///
    /// Another file of that name may be there already, and may have been reported.
    private func handleGone(_ node: DirectoryNode, _ name: String) {
        guard let known = node.files[name] else { return }
        var info = stat()
        if lstat(path(node, name), &info) == 0, info.st_mode & S_IFMT == S_IFREG,
            ElementState(info, tags: [:]).hasSameContent(as: known.state)
        {
            return
        }
        forget(node, name, isFromScan: false)
    }

    // MARK: Files

    /// Why a file is looked at.
    enum Occasion {
        case notified(isClosed: Bool)
        case scan
        case delayed(DelayedChecks.Check)
    }

    /// Compares a file with what is known of it and reports the difference.
    func examine(_ node: DirectoryNode, _ name: String, _ occasion: Occasion) {
        var trustsClose = false
        if case .notified(let isClosed) = occasion { trustsClose = isClosed }
        switch FileProbe.look(path(node, name), trustsClose: trustsClose, settleNanos: settings.settleTime.nanos) {
        case .absent: forget(node, name, isFromScan: !trustsClose)
        case .open, .unsettled:
            let now = WallClock.monotonicNanos()
            if case .delayed(let check) = occasion {
                openFiles.again(check, now: now)
            } else {
                // The kernel notifies of a close a moment before the file counts as closed.
                openFiles.add(node, name, due: now + 100_000, isAfterClose: trustsClose && !isStale)
            }
        case .present(let state, let owner):
            openFiles.remove(node, name)
            let known = node.files[name]
            var isRewritten = trustsClose && !isStale
            var isFromScan = false
            switch occasion {
            case .scan: isFromScan = true
            case .delayed(let check): isRewritten = check.isAfterClose
            case .notified: break
            }
            let changes = ElementChange.between(
                known?.state,
                state,
                key: node.prefix + name,
                owner: owner,
                isRewritten: isRewritten && known?.isRecent == true,
                isFromScan: isFromScan,
                seenMicros: WallClock.nanos() / 1000
            )
            store(node, name, state, known: known, isRewritten: changes.first?.kind == .created)
            guard !changes.isEmpty else { return }
            batch.changes += changes
            if case .delayed = occasion { mark() }
        }
    }

    private func store(
        _ node: DirectoryNode,
        _ name: String,
        _ state: ElementState,
        known: DirectoryNode.File?,
        isRewritten: Bool
    ) {
        var state = state
        if let known, !isRewritten { state.changedNanos = known.state.changedNanos }
        node.files[name] = DirectoryNode.File(state: state, isRecent: Self.isRecent(state))
        if known?.state != state { batch.states[node.prefix + name] = state }
    }

    /// Whether another write could still leave the same modification time.
    private static func isRecent(_ state: ElementState) -> Bool {
        // File systems that keep whole or even seconds show it in their times.
        let tick: Int64 = state.modifiedNanos % 1_000_000_000 == 0 ? 2_100_000_000 : 20_000_000
        return abs(WallClock.nanos() - state.modifiedNanos) < tick
    }

    /// Reports changed tags.
    ///
    /// A changed time alone, as copying programs set it after closing, is noted without an event.
    private func examineAttributes(_ node: DirectoryNode, _ name: String) {
        guard let known = node.files[name],
            case .present(let state, let owner) = FileProbe.look(
                path(node, name),
                trustsClose: true,
                settleNanos: settings.settleTime.nanos
            ), state.inode == known.state.inode, state.sizeBytes == known.state.sizeBytes
        else { return }
        var updated = known.state
        updated.tags = state.tags
        var isRecent = known.isRecent
        if updated.modifiedNanos != state.modifiedNanos {
            updated.modifiedNanos = state.modifiedNanos
            isRecent = true
        }
        guard updated != known.state else { return }
        var before = state
        before.tags = known.state.tags
        batch.changes += ElementChange.between(
            before,
            state,
            key: node.prefix + name,
            owner: owner,
            isFromScan: false,
            seenMicros: WallClock.nanos() / 1000
        )
        node.files[name] = DirectoryNode.File(state: updated, isRecent: isRecent)
        batch.states[node.prefix + name] = updated
    }

    func forget(_ node: DirectoryNode, _ name: String, isFromScan: Bool) {
        guard let known = node.files.removeValue(forKey: name) else { return }
        let key = node.prefix + name
        batch.changes += ElementChange.between(
            known.state,
            nil,
            key: key,
            isFromScan: isFromScan,
            seenMicros: WallClock.nanos() / 1000
        )
        batch.states[key] = .some(nil)
    }

    func dropDirectory(_ parent: DirectoryNode, _ name: String) {
        guard let node = parent.directories.removeValue(forKey: name) else { return }
        newFiles.removeAll(below: node.prefix)
        openFiles.removeAll(below: node.prefix)
        var rest = [node]
        while let next = rest.popLast() {
            for name in next.files.keys.sorted() { forget(next, name, isFromScan: false) }
            if let watch = next.watch, nodes[watch] === next {
                nodes.removeValue(forKey: watch)
                queue?.remove(watch)
            }
            limits.removeValue(forKey: next.prefix)
            rest += next.directories.values
        }
    }

    // MARK: Delayed checks

    var nextDue: Int64 { min(newFiles.nextDue, openFiles.nextDue) }

    func checkDelayed() {
        let now = WallClock.monotonicNanos()
        guard nextDue <= now else { return }
        for check in openFiles.takeDue(now: now) + newFiles.takeDue(now: now) {
            examine(check.node, check.name, .delayed(check))
        }
    }

    /// Puts a marker behind everything the kernel has queued so far.
    func mark() {
        guard let queue else { return }
        // Taking a watch away again leaves a notification. The mask's last bit refuses a directory that is watched already.
        for path in ["/proc/self", "/proc", "/"] {
            if case .success(let watch) = queue.add(path, UInt32(IN_DELETE_SELF) | UInt32(0x1000_0000)) {
                markers.insert(watch)
                queue.remove(watch)
                return
            }
        }
    }

    static func isDirectory(_ path: String) -> Bool {
        var info = stat()
        return lstat(path, &info) == 0 && info.st_mode & S_IFMT == S_IFDIR
    }
}

extension Duration {
    var nanos: Int64 {
        components.seconds * 1_000_000_000 + components.attoseconds / 1_000_000_000
    }
}
