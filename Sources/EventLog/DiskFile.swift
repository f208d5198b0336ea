// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc

/// An open file; closed when the last reference goes.
final class DiskFile: Sendable {
    let path: String
    let descriptor: Int32

    /// Opens or creates a file; `path` is `name` from then on, where it is about to be renamed.
    init(path: String, flags: Int32, mode: mode_t = 0o640, name: String? = nil) throws(EventLogError) {
        self.path = name ?? path
        let opened = retryingOnInterrupt { Glibc.open(path, flags | O_CLOEXEC, mode) }
        guard opened >= 0 else { throw Disk.error(errno, "cannot open", path) }
        descriptor = Int32(opened)
    }

    deinit {
        close(descriptor)
    }

    func size() throws(EventLogError) -> Int64 {
        var info = stat()
        guard fstat(descriptor, &info) == 0 else { throw Disk.error(errno, "cannot examine", path) }
        return Int64(info.st_size)
    }

    /// Whether both are the same file, whatever its name is by now.
    func isSame(as other: DiskFile) throws(EventLogError) -> Bool {
        var (own, others) = (stat(), stat())
        guard fstat(descriptor, &own) == 0, fstat(other.descriptor, &others) == 0 else {
            throw Disk.error(errno, "cannot examine", path)
        }
        return own.st_dev == others.st_dev && own.st_ino == others.st_ino
    }

    func modifiedMilliseconds() throws(EventLogError) -> Int64 {
        var info = stat()
        guard fstat(descriptor, &info) == 0 else { throw Disk.error(errno, "cannot examine", path) }
        return Int64(info.st_mtim.tv_sec) * 1000 + Int64(info.st_mtim.tv_nsec) / 1_000_000
    }

    /// Writes all of `bytes` at `position`.
    func write(_ bytes: [UInt8], at position: Int64) throws(EventLogError) {
        var failure: Int32 = 0
        bytes.withUnsafeBytes { buffer in
            guard let base = buffer.baseAddress else { return }
            var done = 0
            while done < buffer.count, failure == 0 {
                let count = retryingOnInterrupt {
                    pwrite(descriptor, base + done, buffer.count - done, off_t(position) + off_t(done))
                }
                if count > 0 { done += count } else { failure = count == 0 ? EIO : errno }
            }
        }
        if failure != 0 { throw Disk.error(failure, "cannot write", path) }
    }

    /// Reads up to `count` bytes; fewer only at the end of the file.
    func read(at position: Int64, count: Int) throws(EventLogError) -> [UInt8] {
        var failure: Int32 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: max(0, count)) { buffer, initialized in
            let raw = UnsafeMutableRawBufferPointer(buffer)
            while initialized < count, let base = raw.baseAddress {
                let done = initialized
                let got = retryingOnInterrupt {
                    pread(descriptor, base + done, count - done, off_t(position) + off_t(done))
                }
                if got == 0 { break }
                if got < 0 {
                    failure = errno
                    break
                }
                initialized += got
            }
        }
        if failure != 0 { throw Disk.error(failure, "cannot read", path) }
        return bytes
    }

    /// Whether reading these bytes needs no disk.
    func isCached(at position: Int64, count: Int64) -> Bool {
        // Where the system does not say, waiting for the disk is what has to be expected.
        martlet_is_cached(descriptor, position, count) == 1
    }

    /// Reads bytes so that the page cache has them; blocks.
    func bringIntoCache(at position: Int64, count: Int64) throws(EventLogError) {
        let stepBytes: Int64 = 1 << 20
        var done: Int64 = 0
        while done < count {
            let step = min(stepBytes, count - done)
            guard try !read(at: position + done, count: Int(step)).isEmpty else { return }
            done += step
        }
    }

    func truncate(to size: Int64) throws(EventLogError) {
        guard retryingOnInterrupt({ Int(ftruncate(descriptor, off_t(size))) }) == 0 else {
            throw Disk.error(errno, "cannot cut back", path)
        }
    }

    /// Flushes data and the size.
    func synchronize() throws(EventLogError) {
        guard fdatasync(descriptor) == 0 else { throw Disk.error(errno, "cannot flush", path) }
    }

    /// Begins to write these bytes back; whether that works is for the flush to tell.
    func startWriteBack(at position: Int64, count: Int64) {
        martlet_start_writeback(descriptor, position, count)
    }

    /// Makes the file longer by room that reads as zeros; a refusal is harmless, the write itself will tell.
    ///
    /// A flush into such room has neither blocks to find nor a size to record: for a small record it takes two thirds of the time.
    func reserve(from position: Int64, count: Int64) {
        _ = martlet_reserve(descriptor, position, count)
    }

    /// Where what was written from `position` on ends, at the earliest there; behind it is only room that was reserved.
    ///
    /// May lie behind the last byte that was written by as much as zeros fill up a block.
    func writtenEnd(from position: Int64) throws(EventLogError) -> Int64 {
        let size = try size()
        return martlet_written_end(descriptor, min(position, size), size)
    }

    /// Whether all of these bytes are zero; reads no further than to the first that is not.
    func isZero(_ range: Range<Int64>) throws(EventLogError) -> Bool {
        let stepBytes: Int64 = 64 << 10
        var position = range.lowerBound
        while position < range.upperBound {
            let bytes = try read(at: position, count: Int(min(stepBytes, range.upperBound - position)))
            if bytes.isEmpty { return true }
            guard bytes.allSatisfy({ $0 == 0 }) else { return false }
            position += Int64(bytes.count)
        }
        return true
    }
}

private func retryingOnInterrupt(_ call: () -> Int) -> Int {
    while true {
        let result = call()
        if result >= 0 || errno != EINTR { return result }
    }
}

private func retryingOnInterrupt(_ call: () -> Int32) -> Int {
    retryingOnInterrupt { Int(call()) }
}
