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
        /// The file that is written to, and the bytes of it that count.
        var mark = CoordinatorMark(generation: 0, bytes: 0)
        /// What a checkpoint may say of it: as long as nothing is written, what it said before where that is not there any more.
        var known = CoordinatorMark(generation: 0, bytes: 0)
        var hasClosedMark = false
        var wasWritten = false
        /// No file of this number was ever written.
        var nextGeneration: Int64 = 1
        /// The size that, once reached, makes a rewrite worthwhile.
        var rewriteAtBytes: Int64 = CoordinatorStore.rewriteBytesMin
        var stopped: EventLogError?
        /// Why the last commit failed, where the disk was full.
        var fullDisk: EventLogError?
        var damage: [DamageReport] = []
    }

    static let fileName = "offsets.log"
    /// Beside it until something is written: how long the file was when it was closed.
    private static let closedName = "offsets.closed"
    private static let rewriteBytesMin: Int64 = 8 << 20

    private let directory: String
    private let settings: LocalLogSettings
    private let logger: Logger
    private let state: Mutex<State>
    private let threads: WorkerThreads<Request>

    /// Opens or creates the file in `directory` and reads it; blocks.
    ///
    /// `known` is what the log's checkpoint tells of it; `nil` where there is none that does. A torn entry at the end is cut, unless it
    /// is known that the file was on disk behind it; an unreadable one elsewhere is reported, and the file kept aside at the next
    /// rewrite. That the file is missing, or empty, is reported where it must exist. What is missing is told at every start until
    /// something is written.
    static func open(
        directory: String,
        known: CoordinatorMark? = nil,
        mustExist: Bool = false,
        mayBeEmpty: Bool = false,
        settings: LocalLogSettings,
        logger: Logger
    ) throws(EventLogError) -> CoordinatorStore {
        try Disk.makeDirectories(directory)
        let path = "\(directory)/\(fileName)"
        let isNew = !Disk.exists(path)
        if isNew { try Disk.replace(path, with: head(generation: max(1, known?.generation ?? 0))) }
        let found = try read(path, known, closedBytes: closedBytes(directory))
        var state = State(file: found.file)
        state.content = found.content
        state.mark = CoordinatorMark(generation: found.generation, bytes: Int64(found.end))
        state.nextGeneration = max(found.generation, known?.generation ?? 0) + 1
        state.hasClosedMark = Disk.exists("\(directory)/\(closedName)")
        var damage = found.damage.map { Self.report(path, $0, unreadable) }
        if found.isOlder {
            damage.append(
                Self.report(path, 0..<0, "the file is older than what the log's checkpoint tells of: \(unreadable)")
            )
        }
        if isNew, mustExist {
            let missing =
                "the file is missing and was made anew: committed offsets and states of groups, producers and transactions are lost"
            damage = [Self.report(path, found.damage.first ?? 0..<0, missing)]
        } else if found.end == 0, damage.isEmpty {
            if mustExist, !mayBeEmpty {
                damage = [Self.report(path, 0..<0, "the file is empty: \(unreadable)")]
            } else {
                let bytes = head(generation: state.nextGeneration)
                state.file = try Disk.replace(path, with: bytes)
                state.mark = CoordinatorMark(generation: state.nextGeneration, bytes: Int64(bytes.count))
                state.nextGeneration += 1
            }
        }
        for report in damage {
            logger.error("stored group offsets and states are damaged", metadata: ["damage": "\(report)"])
        }
        if let torn = found.torn {
            logger.notice("cut a torn commit", metadata: ["file": "\(path)", "bytes": "\(torn)"])
        }
        state.damage = damage
        // What a start that fails has found out is to be found out by the next one, too.
        state.known = damage.isEmpty ? state.mark : known ?? state.mark
        return CoordinatorStore(directory: directory, settings: settings, logger: logger, state: state)
    }

    private static let unreadable =
        "committed offsets or states of groups, producers or transactions cannot be read: some may continue from an earlier state"

    private static func report(_ path: String, _ bytes: Range<Int>, _ reason: String) -> DamageReport {
        DamageReport(
            topic: "",
            partition: -1,
            offsets: 0..<0,
            file: path,
            bytes: Int64(bytes.lowerBound)..<Int64(bytes.upperBound),
            reason: reason
        )
    }

    /// The entry that a file begins with, followed by `others`.
    private static func head(generation: Int64, others: [UInt8] = []) -> [UInt8] {
        var bytes: [UInt8] = []
        CoordinatorEntry.begin(CoordinatorMark(generation: generation, bytes: 0)).encode(to: &bytes)
        let length = Int64(bytes.count + others.count)
        bytes.removeAll()
        CoordinatorEntry.begin(CoordinatorMark(generation: generation, bytes: length)).encode(to: &bytes)
        return bytes + others
    }

    private struct Found {
        let file: DiskFile
        var content = CoordinatorContent()
        var generation: Int64 = 0
        /// Where the next entry goes.
        var end = 0
        /// What cannot be read, or is missing.
        var damage: [Range<Int>] = []
        /// Whether it is from before the file that the checkpoint tells of.
        var isOlder = false
        /// How many bytes of an entry that was never whole were cut.
        var torn: Int?
    }

    private static func read(
        _ path: String,
        _ known: CoordinatorMark?,
        closedBytes: Int
    ) throws(EventLogError) -> Found {
        var found = Found(file: try DiskFile(path: path, flags: O_RDWR))
        let bytes = try found.file.read(at: 0, count: Int(try found.file.size()))
        let checkpointed = Int(clamping: known?.bytes ?? 0)
        var flushed = max(closedBytes, checkpointed)
        while found.end < bytes.count {
            if let (entry, end) = CoordinatorEntry.decode(bytes, at: found.end) {
                if found.end == 0 {
                    var begin = CoordinatorMark(generation: 0, bytes: 0)
                    if case .begin(let mark) = entry { begin = mark }
                    found.generation = begin.generation
                    let isKnown = known?.generation == begin.generation
                    flushed = max(closedBytes, Int(clamping: begin.bytes), isKnown ? checkpointed : 0)
                    if let known, known.generation > begin.generation { found.isOlder = true }
                }
                found.content.apply(entry)
                found.end = end
            } else if let next = nextEntry(in: bytes, after: found.end) {
                found.damage.append(found.end..<next)
                found.end = next
            } else if found.end < flushed {
                found.damage.append(found.end..<max(bytes.count, flushed))
                found.end = bytes.count
            } else {
                found.torn = bytes.count - found.end
                try found.file.truncate(to: Int64(found.end))
                break
            }
        }
        if found.torn == nil, bytes.count < flushed, found.damage.isEmpty { found.damage.append(bytes.count..<flushed) }
        // What a killed process wrote may be in the page cache only.
        if found.end > 0 { try found.file.synchronize() }
        return found
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
                bytes: state.mark.bytes..<state.mark.bytes,
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
        let (bytes, isWhole) = state.withLock {
            ($0.mark.bytes, $0.stopped == nil && ($0.wasWritten || $0.damage.isEmpty))
        }
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

    /// What was certainly flushed of which file, for the checkpoint.
    func flushed() -> CoordinatorMark {
        state.withLock { $0.known }
    }

    /// Returns how long the file was when it was closed, 0 where nobody closed it.
    private static func closedBytes(_ directory: String) throws(EventLogError) -> Int {
        let path = "\(directory)/\(closedName)"
        guard Disk.exists(path) else { return 0 }
        let mark = try Disk.readWhole(path)
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
        let (file, position, stopped) = state.withLock { ($0.file, $0.mark.bytes, $0.stopped) }
        if let stopped { return fail(requests, stopped) }
        do throws(EventLogError) {
            try removeClosedMark()
        } catch {
            return fail(requests, error)
        }
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
            state.mark = CoordinatorMark(generation: state.mark.generation, bytes: position + Int64(bytes.count))
            state.known = state.mark
            state.wasWritten = true
            return state.mark.bytes >= state.rewriteAtBytes
        }
        for request in requests { request.continuation.resume() }
        if isRewriteDue { rewrite() }
    }

    /// Takes the mark of the last stop away, which would not be true any more; a power failure that brings it back brings one back that says
    /// too little.
    private func removeClosedMark() throws(EventLogError) {
        guard state.withLock({ $0.hasClosedMark }) else { return }
        try Disk.remove("\(directory)/\(Self.closedName)")
        state.withLock { $0.hasClosedMark = false }
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
        let (content, generation, hasDamage) = state.withLock { ($0.content, $0.nextGeneration, !$0.damage.isEmpty) }
        var entries: [UInt8] = []
        for entry in content.entries() { entry.encode(to: &entries) }
        let bytes = Self.head(generation: generation, others: entries)
        let path = "\(directory)/\(Self.fileName)"
        do {
            if hasDamage {
                let aside = "\(path).damaged-\(settings.now())"
                if link(path, aside) != 0, errno != EEXIST { throw Disk.error(errno, "cannot keep aside", path) }
            }
            let file = try Disk.replace(path, with: bytes)
            state.withLock { state in
                state.file = file
                state.mark = CoordinatorMark(generation: generation, bytes: Int64(bytes.count))
                state.known = state.mark
                state.nextGeneration = generation + 1
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
            state.withLock { $0.rewriteAtBytes = 2 * max($0.mark.bytes, Self.rewriteBytesMin) }
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
