// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import Glibc
import KafkaCodec
import Logging
import Synchronization

/// What consumer groups and transactions have made durable: a file that is appended to, and all of it in memory.
///
/// Entries that wait together share one `fdatasync`. The file is rewritten when most of it is outdated.
final class CoordinatorStore: Sendable {
    private struct Request: Sendable {
        let entry: CoordinatorEntry
        let continuation: CheckedContinuation<Void, any Error>
    }

    private struct State {
        var content = CoordinatorContent()
        var file: DiskFile
        var fileBytes: Int64 = 0
        /// The size that, once reached, makes a rewrite worthwhile.
        var rewriteAtBytes: Int64 = CoordinatorStore.rewriteBytesMin
        var stopped: EventLogError?
        /// Why the last commit failed, where the disk was full.
        var fullDisk: EventLogError?
        var damage: [DamageReport] = []
    }

    static let fileName = "offsets.log"
    /// Beside it while no engine runs: how long the file was when it was closed.
    private static let closedName = "offsets.closed"
    private static let rewriteBytesMin: Int64 = 8 << 20

    private let directory: String
    private let settings: LocalLogSettings
    private let logger: Logger
    private let state: Mutex<State>
    private let threads: WorkerThreads<Request>

    /// Opens or creates the file in `directory` and reads it; blocks.
    ///
    /// A torn entry at the end is cut, unless the file was closed behind it; an unreadable one elsewhere is reported, and the
    /// file kept aside at the next rewrite. That the file is missing is reported where it must exist.
    static func open(
        directory: String,
        mustExist: Bool = false,
        settings: LocalLogSettings,
        logger: Logger
    ) throws(EventLogError) -> CoordinatorStore {
        try Disk.makeDirectories(directory)
        let path = "\(directory)/\(fileName)"
        let isNew = !Disk.exists(path)
        let file = try DiskFile(path: path, flags: O_RDWR | O_CREAT)
        if isNew { try Disk.synchronizeDirectory(directory) }
        var state = State(file: file)
        let bytes = try file.read(at: 0, count: Int(try file.size()))
        let closedBytes = try takeClosedMark(directory)
        func report(_ lost: Range<Int>, _ missing: String? = nil) {
            let report = DamageReport(
                topic: "",
                partition: -1,
                offsets: 0..<0,
                file: path,
                bytes: Int64(lost.lowerBound)..<Int64(lost.upperBound),
                reason: missing ?? "committed offsets or states of groups, producers or transactions cannot be read: "
                    + "some may continue from an earlier state"
            )
            logger.error("stored group offsets and states are damaged", metadata: ["damage": "\(report)"])
            state.damage.append(report)
        }
        if isNew, mustExist || closedBytes > 0 {
            report(
                0..<closedBytes,
                "the file is missing and was made anew: committed offsets and states of groups, producers and transactions are lost"
            )
        }
        var position = 0
        while position < bytes.count {
            if let (entry, end) = CoordinatorEntry.decode(bytes, at: position) {
                state.content.apply(entry)
                position = end
                continue
            }
            if let next = nextEntry(in: bytes, after: position) {
                report(position..<next)
                position = next
            } else if position < closedBytes {
                report(position..<max(bytes.count, closedBytes))
                position = bytes.count
            } else {
                logger.notice("cut a torn commit", metadata: ["file": "\(path)", "bytes": "\(bytes.count - position)"])
                try file.truncate(to: Int64(position))
                break
            }
        }
        if position == bytes.count, bytes.count < closedBytes, state.damage.isEmpty {
            report(bytes.count..<closedBytes)
        }
        // What a killed process wrote may be in the page cache only.
        if position > 0 { try file.synchronize() }
        state.fileBytes = Int64(position)
        return CoordinatorStore(directory: directory, settings: settings, logger: logger, state: state)
    }

    private init(directory: String, settings: LocalLogSettings, logger: Logger, state: sending State) {
        self.directory = directory
        self.settings = settings
        self.logger = logger
        self.state = Mutex(state)
        let handler = HandlerBox()
        threads = WorkerThreads(name: "log-groups", itemsMax: 1 << 16) { requests, _ in handler.call(requests) }
        handler.set { [weak self] requests in self?.write(requests) }
    }

    /// Stores an entry; durable on return.
    func store(_ entry: CoordinatorEntry) async throws {
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            switch threads.submit(Request(entry: entry, continuation: continuation)) {
            case true: break
            case false:
                continuation.resume(throwing: EventLogError(.overloaded, "too many commits are waiting; try again"))
            default: continuation.resume(throwing: EventLogError(.closed, "the event log is closed"))
            }
        }
    }

    func offsets(of group: String) -> [TopicPartition: StoredOffset] {
        state.withLock { $0.content.groups[group] ?? [:] }
    }

    /// How many groups have offsets, and about what all offsets take in memory.
    var offsetUsage: (groups: Int, bytes: Int) { state.withLock { ($0.content.groups.count, $0.content.offsetBytes) } }

    func groupNames() -> [String] {
        state.withLock { $0.content.groups.keys.sorted() }
    }

    /// Returns everything stored at this moment.
    func content() -> CoordinatorContent {
        state.withLock { $0.content }
    }

    /// What cannot be read, and that nothing more can be written where that is so.
    func damage() -> [DamageReport] {
        state.withLock { state in
            guard let stopped = state.stopped ?? state.fullDisk else { return state.damage }
            let stop = DamageReport(
                topic: "",
                partition: -1,
                offsets: 0..<0,
                file: state.file.path,
                bytes: state.fileBytes..<state.fileBytes,
                reason: stopped.message
            )
            return state.damage + [stop]
        }
    }

    /// Finishes what was accepted, ends the thread and notes how long the file is.
    ///
    /// Blocks.
    func stop() {
        threads.stop()
        let (bytes, isWhole) = state.withLock { ($0.fileBytes, $0.stopped == nil) }
        guard isWhole else { return }
        var mark: [UInt8] = []
        BigEndian.append(bytes, to: &mark)
        BigEndian.append(CRC32C.checksum(mark), to: &mark)
        do {
            try Disk.replace("\(directory)/\(Self.closedName)", with: mark)
        } catch {
            // Without it a damaged end is taken for a torn one.
            logger.warning("the end of the group offsets was not noted", metadata: ["error": "\(error)"])
        }
    }

    /// Returns how long the file was when it was closed, 0 where nobody closed it, and takes the mark away: it is not true any more as soon
    /// as something is written.
    private static func takeClosedMark(_ directory: String) throws(EventLogError) -> Int {
        let path = "\(directory)/\(closedName)"
        guard Disk.exists(path) else { return 0 }
        let mark = try Disk.readWhole(path)
        try Disk.remove(path)
        try Disk.synchronizeDirectory(directory)
        guard mark.count == 12, BigEndian.load(UInt32.self, from: mark, at: 8) == CRC32C.checksum(mark, in: 0..<8)
        else {
            return 0
        }
        return Int(clamping: BigEndian.load(Int64.self, from: mark, at: 0))
    }

    private static func nextEntry(in bytes: [UInt8], after position: Int) -> Int? {
        var candidate = position + 1
        while bytes.count - candidate >= CoordinatorEntry.frameBytes {
            if bytes[candidate] == 0x4D, CoordinatorEntry.decode(bytes, at: candidate) != nil { return candidate }
            candidate += 1
        }
        return nil
    }

    // MARK: On the thread

    private func write(_ requests: [Request]) {
        let (file, position, stopped) = state.withLock { ($0.file, $0.fileBytes, $0.stopped) }
        if let stopped { return fail(requests, stopped) }
        var bytes: [UInt8] = []
        for request in requests { request.entry.encode(to: &bytes) }
        do {
            try file.write(bytes, at: position)
        } catch {
            if error.code == .diskFull, (try? file.truncate(to: position)) != nil {
                noteFullDisk(error)
                return fail(requests, error)
            }
            return fail(requests, stop(error))
        }
        let number = settings.synchronize(file.descriptor)
        guard number == 0 else { return fail(requests, stop(Disk.error(number, "cannot flush", file.path))) }
        let isRewriteDue = state.withLock { state in
            state.fullDisk = nil
            for request in requests { state.content.apply(request.entry) }
            state.fileBytes += Int64(bytes.count)
            return state.fileBytes >= state.rewriteAtBytes
        }
        for request in requests { request.continuation.resume() }
        if isRewriteDue { rewrite() }
    }

    private func noteFullDisk(_ error: EventLogError) {
        let isFirst = state.withLock { state in
            defer { state.fullDisk = error }
            return state.fullDisk == nil
        }
        guard isFirst else { return }
        logger.error(
            "the disk is full: commits of offsets are refused until there is room",
            metadata: ["error": "\(error)"]
        )
    }

    private func rewrite() {
        let content = state.withLock { $0.content }
        let hasDamage = state.withLock { !$0.damage.isEmpty }
        var bytes: [UInt8] = []
        for entry in content.entries() { entry.encode(to: &bytes) }
        let path = "\(directory)/\(Self.fileName)"
        do {
            if hasDamage {
                let aside = "\(path).damaged-\(settings.now())"
                if link(path, aside) != 0, errno != EEXIST { throw Disk.error(errno, "cannot keep aside", path) }
            }
            let file = try Disk.replace(path, with: bytes)
            state.withLock { state in
                state.file = file
                state.fileBytes = Int64(bytes.count)
                state.rewriteAtBytes = max(Self.rewriteBytesMin, 4 * Int64(bytes.count))
            }
        } catch {
            logger.warning("the group offsets file was not rewritten", metadata: ["error": "\(error)"])
            afterFailedRewrite(path)
        }
    }

    /// Goes on with the file there was, where it is still the one under the name, and does not try again at once.
    private func afterFailedRewrite(_ path: String) {
        let open = state.withLock { $0.file }
        do throws(EventLogError) {
            guard try open.isNamed(path) else {
                // A power failure may bring back either of them, so neither can be written on.
                throw EventLogError(.inputOutput, "the new file's name cannot be flushed", path: path)
            }
            state.withLock { $0.rewriteAtBytes = 2 * max($0.fileBytes, Self.rewriteBytesMin) }
        } catch {
            _ = stop(error)
        }
    }

    private func stop(_ cause: EventLogError) -> EventLogError {
        let error = EventLogError(
            .partitionStopped,
            "group offsets cannot be stored any more (\(cause.message)); mend the disk and start the engine again",
            path: cause.path,
            systemError: cause.systemError
        )
        state.withLock { $0.stopped = error }
        logger.critical("group offsets stopped", metadata: ["error": "\(error)"])
        return error
    }

    private func fail(_ requests: [Request], _ error: EventLogError) {
        for request in requests { request.continuation.resume(throwing: error) }
    }

    /// Lets the thread be made before `self` is complete.
    private final class HandlerBox: Sendable {
        private let handler = Mutex<(@Sendable ([Request]) -> Void)?>(nil)

        func set(_ handler: @escaping @Sendable ([Request]) -> Void) {
            self.handler.withLock { $0 = handler }
        }

        func call(_ requests: [Request]) {
            handler.withLock { $0 }?(requests)
        }
    }
}
