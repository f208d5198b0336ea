// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import CInotify
import Foundation
import Glibc
import Synchronization

/// Watches one directory on a thread of its own and puts what happens into a channel.
package final class ViewWatcher: Sendable {
    private struct State {
        var isStopping = false
        var wantsScan = false
        var wakeDescriptor: Int32 = -1
    }

    private let root: String
    private let settings: ViewWatchSettings
    private let channel: BatchChannel
    private let onStatus: @Sendable (ViewStatus) -> Void
    private let state = Mutex(State())

    /// Makes a watcher of `root`, an absolute path without links; nothing starts before ``run(known:)``.
    ///
    /// `onStatus` is called on the watcher's thread.
    package init(
        root: String,
        settings: ViewWatchSettings = ViewWatchSettings(),
        channel: BatchChannel,
        onStatus: @escaping @Sendable (ViewStatus) -> Void
    ) {
        self.root = root
        self.settings = settings
        self.channel = channel
        self.onStatus = onStatus
    }

    /// Watches until the task is cancelled or ``stop()`` is called; the channel is closed at the end.
    ///
    /// `known` is what was known of the elements when watching last ended; the first scan reports the difference.
    package func run(known: [(key: String, state: ElementState)]) async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
                let thread = Thread { [self] in
                    watch(known)
                    channel.close()
                    continuation.resume()
                }
                thread.name = "view-watcher"
                thread.start()
            }
        } onCancel: {
            stop()
        }
    }

    /// Ends watching.
    package func stop() {
        state.withLock { $0.isStopping = true }
        channel.close()
        wake()
    }

    /// Asks for a comparison of the whole directory with what is known.
    package func requestScan() {
        state.withLock { $0.wantsScan = true }
        wake()
    }

    private func wake() {
        state.withLock { state in
            guard state.wakeDescriptor >= 0 else { return }
            var byte: UInt8 = 1
            _ = write(state.wakeDescriptor, &byte, 1)
        }
    }

    private var isStopping: Bool { state.withLock { $0.isStopping } }

    // MARK: On the thread

    private func watch(_ known: [(key: String, state: ElementState)]) {
        var ends: [Int32] = [-1, -1]
        guard martlet_make_pipe(&ends) == 0 else {
            onStatus(ViewStatus(.failed, reason: "no pipe for the watcher: \(ViewError.text(errno))"))
            return
        }
        state.withLock { $0.wakeDescriptor = ends[1] }
        defer {
            state.withLock { $0.wakeDescriptor = -1 }
            close(ends[0])
            close(ends[1])
        }
        let index = ViewIndex(root: root, settings: settings)
        for element in known { index.tree.insert(element.key, element.state) }
        index.flush = { [self, unowned index] in emit(index) }
        while !isStopping {
            if let reason = open(index) {
                onStatus(ViewStatus(.failed, reason: reason))
                wait(nil, ends[0], nanos: settings.retryInterval.nanos)
                continue
            }
            onStatus(ViewStatus(.scanning))
            index.scanAll()
            index.batch.endsScan = !index.isRootGone
            emit(index)
            if !index.isRootGone { onStatus(readyStatus(index)) }
            follow(index, ends[0])
            index.unwatch()
        }
    }

    /// Follows notifications until the root goes away or the watcher is stopped.
    private func follow(_ index: ViewIndex, _ wakeDescriptor: Int32) {
        var lastScan = WallClock.monotonicNanos()
        var lastStatus = readyStatus(index)
        while !isStopping, !index.isRootGone {
            let now = WallClock.monotonicNanos()
            let scanDue = index.limits.isEmpty ? Int64.max : lastScan + settings.rescanInterval.nanos
            let due = min(index.nextDue, scanDue)
            if index.backlog.isEmpty {
                wait(index.queue?.descriptor, wakeDescriptor, nanos: due == .max ? nil : max(0, due - now))
            }
            _ = index.handleWaiting()
            index.checkDelayed()
            let wantsScan = state.withLock { state in
                defer { state.wantsScan = false }
                return state.wantsScan
            }
            if index.needsScan || wantsScan || WallClock.monotonicNanos() >= scanDue {
                index.scanAll()
                lastScan = WallClock.monotonicNanos()
            }
            emit(index)
            let status = readyStatus(index)
            if status != lastStatus, !index.isRootGone {
                onStatus(status)
                lastStatus = status
            }
        }
    }

    private func emit(_ index: ViewIndex) {
        guard !index.batch.isEmpty else { return }
        let batch = index.batch
        index.batch = ElementBatch()
        _ = channel.push(batch)
    }

    /// Waits for a notification, a wake-up or the time.
    private func wait(_ queue: Int32?, _ wakeDescriptor: Int32, nanos: Int64?) {
        guard martlet_wait_readable(wakeDescriptor, queue ?? -1, nanos ?? -1) & 1 != 0 else { return }
        var bytes = [UInt8](repeating: 0, count: 64)
        while read(wakeDescriptor, &bytes, bytes.count) > 0 {}
    }

    /// Opens the kernel's queue and looks at the root; the reason where it cannot be watched.
    private func open(_ index: ViewIndex) -> String? {
        var info = stat()
        guard stat(root, &info) == 0 else {
            return
                "the directory '\(root)' cannot be found: \(ViewError.text(errno)); it is looked for again every second"
        }
        guard info.st_mode & S_IFMT == S_IFDIR else { return "'\(root)' is not a directory" }
        guard access(root, R_OK | X_OK) == 0 else {
            return "the directory '\(root)' cannot be read: \(ViewError.text(errno)); give the engine's user read and "
                + "search permission on it"
        }
        do {
            index.queue = try InotifyQueue()
            return nil
        } catch  where error.systemError == EMFILE {
            return "the system's limit of inotify instances is reached; raise it with: "
                + "sysctl -w fs.inotify.max_user_instances=1024"
        } catch {
            return error.description
        }
    }

    private func readyStatus(_ index: ViewIndex) -> ViewStatus {
        var reasons: [String] = []
        let unwatched = index.limits.values.filter { $0.systemError == ENOSPC }.count
        if unwatched > 0 {
            reasons.append(
                "\(unwatched) directories are not watched because the limit fs.inotify.max_user_watches is reached; changes in "
                    + "them are found every \(settings.rescanInterval.nanos / 1_000_000_000) s. Raise it with: "
                    + "sysctl -w fs.inotify.max_user_watches=1048576"
            )
        }
        let others = index.limits.values.filter { $0.systemError != ENOSPC }
        if let first = others.min(by: { $0.path < $1.path }) {
            reasons.append("\(others.count) directories cannot be read, first: \(first)")
        }
        if index.unreadableNames > 0 {
            reasons.append("\(index.unreadableNames) names are not UTF-8 and are left out")
        }
        return ViewStatus(.ready, reason: reasons.isEmpty ? nil : reasons.joined(separator: "; "))
    }
}
