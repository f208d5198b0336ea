// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DequeModule
import Glibc
import Synchronization

/// How many segments' files a log keeps open, and which one is closed for another.
///
/// Partitions keep files open that they have used, and say so here; beyond the number given the one that was not used for longest is closed,
/// as a clock with one hand finds it. Closing means that the partition lets go of it: whoever is reading, sending or flushing
/// it holds it until that is done. What has not been flushed stays open.
final class OpenFiles: Sendable {
    private struct Entry {
        weak var partition: PartitionLog?
        let segmentBase: Int64
    }

    private let countMax: Int
    /// The most files that one writer may have written and not yet flushed, all of which are open.
    let perCycle: Int
    private let entries = Mutex(Deque<Entry>())
    private let lent = Atomic(0)

    init(countMax: Int, writers: Int) {
        self.countMax = max(1, countMax)
        perCycle = max(1, countMax / 2 / max(1, writers))
    }

    /// Whether files may be given to those who send them, each of whom holds one until it is sent.
    var mayLend: Bool { lent.load(ordering: .relaxed) < countMax / 2 }

    /// Counts a file as lent for as long as the loan lives.
    func lend() -> FileLoan {
        lent.wrappingAdd(1, ordering: .relaxed)
        return FileLoan(files: self)
    }

    fileprivate func takeBack() { lent.wrappingSubtract(1, ordering: .relaxed) }

    /// Takes note of a file that a partition keeps, and closes others where there are too many; no partition's state is locked meanwhile.
    func opened(_ partition: PartitionLog, segmentBase: Int64) {
        entries.withLock { $0.append(Entry(partition: partition, segmentBase: segmentBase)) }
        closeSome(downTo: countMax, triesMax: 1024)
    }

    /// Closes everything that can be closed: the system has refused to open another file.
    func closeAll() {
        closeSome(downTo: 0, triesMax: .max)
    }

    private func closeSome(downTo limit: Int, triesMax: Int) {
        // Twice around: what was used since the hand came by is passed over once. It goes on from there the next time.
        var tries = entries.withLock { $0.count > limit ? min(2 * $0.count, triesMax) : 0 }
        while tries > 0 {
            tries -= 1
            guard let entry = entries.withLock({ $0.count > limit ? $0.popFirst() : nil }) else { return }
            guard let partition = entry.partition, !partition.letGo(segmentAt: entry.segmentBase) else { continue }
            entries.withLock { $0.append(entry) }
        }
    }
}

/// A file that somebody outside the log is sending.
final class FileLoan: Sendable {
    private let files: OpenFiles

    fileprivate init(files: OpenFiles) {
        self.files = files
    }

    deinit { files.takeBack() }
}

extension LocalLog {
    /// Whether there are files left for further ranges; where not, who sends many should send those he has first.
    package var lendsFiles: Bool { environment.openFiles.mayLend }
}

extension PartitionLog {
    /// Lets go of a segment's file unless it was used since it was asked last or has to be flushed; true where there is none any more.
    fileprivate func letGo(segmentAt base: Int64) -> Bool {
        state.withLock { state in
            let place = state.segmentIndex(of: base)
            guard state.segments[place].baseOffset == base, state.segments[place].file != nil else { return true }
            return state.letGo(at: place)
        }
    }

    /// Lets go of the last segment's file where nobody has used it since this was called last.
    func closeIdleFile() {
        state.withLock { state in _ = state.letGo(at: state.segments.count - 1) }
    }

    /// Returns the last segment's file, opening it where it was closed; the partition keeps it.
    ///
    /// On the writer thread.
    func openLastFile() throws(EventLogError) -> DiskFile {
        let (base, open) = state.withLock { state in
            let last = state.segments[state.segments.count - 1]
            return (last.baseOffset, last.file)
        }
        if let open { return open }
        let path = SegmentPaths(directory: directory, baseOffset: base).log
        return keep(try openOrMakeRoom(path, writable: true), base)
    }

    /// Opens a file of the partition; where the process may have no more of them, those that nobody is using are closed first.
    func openOrMakeRoom(_ path: String, writable: Bool = false) throws(EventLogError) -> DiskFile {
        let flags = writable ? O_RDWR : O_RDONLY
        var file: DiskFile
        do throws(EventLogError) {
            file = try DiskFile(path: path, flags: flags)
        } catch {
            guard error.isOutOfFiles else { throw error }
            environment.openFiles.closeAll()
            file = try DiskFile(path: path, flags: flags)
        }
        // Another topic of the name may have been made since this one was deleted.
        if case .gone(let error) = state.withLock({ $0.status }) { throw error }
        return file
    }

    /// Keeps the file, open for writing, with the last segment, unless that is another one by now or has one.
    func keep(_ file: DiskFile, _ base: Int64) -> DiskFile {
        let (kept, isNew) = state.withLock { state in
            let last = state.segments.count - 1
            guard state.segments[last].baseOffset == base else { return (file, false) }
            state.segments[last].wasUsed = true
            if let found = state.segments[last].file { return (found, false) }
            state.segments[last].file = file
            return (file, true)
        }
        if isNew { environment.openFiles.opened(self, segmentBase: base) }
        return kept
    }
}

extension PartitionState {
    /// Lets go of a segment's file, of a closed one's index too; false where it was used or has to be flushed.
    fileprivate mutating func letGo(at place: Int) -> Bool {
        let isLast = place == segments.count - 1
        if segments[place].wasUsed {
            segments[place].wasUsed = false
            return false
        }
        if isLast, syncedBytes < segments[place].byteCount { return false }
        segments[place].file = nil
        if !isLast { segments[place].index = nil }
        return true
    }
}
