// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import CInotify
import Foundation
import Synchronization
import Testing
import Views

/// A temporary directory that is watched while `body` runs.
final class WatchedDirectory: Sendable {
    let path: String
    let channel: BatchChannel
    let watcher: ViewWatcher
    private let collected = Mutex<[ElementChange]>([])
    private let known = Mutex<[String: ElementState]>([:])
    private let statuses = Mutex<[ViewStatus]>([])

    private init(path: String, settings: ViewWatchSettings) {
        self.path = path
        channel = BatchChannel(changesMax: settings.pendingChangesMax)
        let statuses = Statuses()
        watcher = ViewWatcher(root: path, settings: settings, channel: channel) { statuses.add($0) }
        self.statusList = statuses
    }

    private let statusList: Statuses

    static func temporaryPath() -> String {
        let base = FileManager.default.temporaryDirectory.resolvingSymlinksInPath().path
        return "\(base)/martlet-view-\(UUID().uuidString.lowercased())"
    }

    /// Makes the directory unless `path` is given, watches it and removes it at the end.
    static func with(
        path: String? = nil,
        known: [(key: String, state: ElementState)] = [],
        settings: ViewWatchSettings = fastSettings,
        waitsForReady: Bool = true,
        _ body: @Sendable (WatchedDirectory) async throws -> Void
    ) async throws {
        let isOwn = path == nil
        let path = path ?? temporaryPath()
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        defer { if isOwn { try? FileManager.default.removeItem(atPath: path) } }  // Nothing can be done about it.
        let directory = WatchedDirectory(path: path, settings: settings)
        for element in known { directory.known.withLock { $0[element.key] = element.state } }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await directory.watcher.run(known: known) }
            group.addTask { await directory.collect() }
            if waitsForReady { try await directory.wait { $0.state == .ready } }
            try await body(directory)
            directory.watcher.stop()
            try await group.waitForAll()
        }
    }

    static var fastSettings: ViewWatchSettings {
        var settings = ViewWatchSettings()
        settings.retryInterval = .milliseconds(20)
        settings.rescanInterval = .milliseconds(100)
        return settings
    }

    private func collect() async {
        while let batch = await channel.next() {
            known.withLock { known in
                for (key, state) in batch.states { known[key] = state }
            }
            collected.withLock { $0 += batch.changes }
        }
    }

    var changes: [ElementChange] { collected.withLock { $0 } }
    var summary: [String] { changes.map(Self.text) }
    /// What an inventory would have.
    var inventory: [(key: String, state: ElementState)] { known.withLock { $0.map { ($0.key, $0.value) } } }

    static func text(_ change: ElementChange) -> String {
        let tag = change.tag.map { " \($0.name)=\($0.value)" } ?? ""
        return "\(change.kind) \(change.key)\(tag)"
    }

    /// Waits until that many changes have been seen, then a little more for those too many.
    func settled(_ count: Int, seconds: Double = 10) async throws -> [String] {
        let end = ContinuousClock.now + .seconds(seconds)
        while changes.count < count, ContinuousClock.now < end { try await Task.sleep(for: .milliseconds(2)) }
        // A file put in last proves that everything before it was handled.
        return summary
    }

    /// Writes a file that is seen last, and returns everything seen before it.
    func flushed() async throws -> [String] {
        let name = "flush-\(UUID().uuidString)"
        try write(name, "x")
        let end = ContinuousClock.now + .seconds(30)
        while !summary.contains("created \(name)"), ContinuousClock.now < end {
            try await Task.sleep(for: .milliseconds(2))
        }
        return summary.filter { !$0.contains("flush-") }
    }

    func wait(for wanted: @Sendable (ViewStatus) -> Bool) async throws {
        let end = ContinuousClock.now + .seconds(30)
        while statusList.last.map(wanted) != true {
            try #require(ContinuousClock.now < end, "status is \(String(describing: statusList.last))")
            try await Task.sleep(for: .milliseconds(2))
        }
    }

    var status: ViewStatus? { statusList.last }

    func write(_ key: String, _ text: String) throws {
        try Data(text.utf8).write(to: URL(fileURLWithPath: "\(path)/\(key)"))
    }

    func makeDirectory(_ key: String) throws {
        try FileManager.default.createDirectory(atPath: "\(path)/\(key)", withIntermediateDirectories: true)
    }

    func remove(_ key: String) throws { try FileManager.default.removeItem(atPath: "\(path)/\(key)") }

    func move(_ from: String, _ to: String) throws {
        guard rename("\(path)/\(from)", "\(path)/\(to)") == 0 else {
            throw ViewError("rename", path: from, systemError: errno)
        }
    }

    func tag(_ key: String, _ name: String, _ value: String?) throws {
        _ =
            try value.map { try ElementDirectory(root: path).tag(key, [name: $0]) }
            ?? ElementDirectory(root: path).untag(key, [name])
    }
}

private final class Statuses: Sendable {
    private let list = Mutex<[ViewStatus]>([])
    func add(_ status: ViewStatus) { list.withLock { $0.append(status) } }
    var last: ViewStatus? { list.withLock { $0.last } }
}
