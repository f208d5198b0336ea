// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import CInotify
import Glibc

/// What a look at one path found.
enum FileProbe {
    /// Nothing there, or not a regular file.
    case absent
    /// Somebody has the file open for writing.
    case open
    /// It changed so lately that it may still be written, and the system cannot tell.
    case unsettled
    case present(ElementState, owner: UInt32)

    /// Looks at a path without following a symbolic link.
    ///
    /// Where the system cannot tell whether the file is open (another user's file without the right to lease, some network file
    /// systems), it is taken as complete when `trustsClose` is set, or else when it has not changed for `settleNanos`.
    static func look(_ path: String, trustsClose: Bool, settleNanos: Int64) -> FileProbe {
        var info = stat()
        guard lstat(path, &info) == 0, info.st_mode & S_IFMT == S_IFREG else { return .absent }
        let descriptor = Glibc.open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)
        guard descriptor >= 0 else {
            switch errno {
            case ENOENT, ELOOP, ENXIO: return .absent
            case EWOULDBLOCK: return .open
            default: return settled(info, tags: ElementTags.read(path: path) ?? [:], trustsClose, settleNanos)
            }
        }
        defer { close(descriptor) }
        let writing = martlet_is_open_for_writing(descriptor)
        if writing == 1 { return .open }
        guard fstat(descriptor, &info) == 0, info.st_mode & S_IFMT == S_IFREG else { return .absent }
        let tags = ElementTags.read(descriptor: descriptor) ?? [:]
        if writing == 0 { return .present(ElementState(info, tags: tags), owner: info.st_uid) }
        return settled(info, tags: tags, trustsClose, settleNanos)
    }

    private static func settled(
        _ info: stat,
        tags: [String: String],
        _ trustsClose: Bool,
        _ settleNanos: Int64
    ) -> FileProbe {
        let state = ElementState(info, tags: tags)
        let age = WallClock.nanos() - state.modifiedNanos
        if trustsClose || age >= settleNanos || age < -settleNanos { return .present(state, owner: info.st_uid) }
        return .unsettled
    }
}

extension ElementState {
    init(_ info: stat, tags: [String: String]) {
        self.init(
            inode: UInt64(info.st_ino),
            sizeBytes: Int64(info.st_size),
            modifiedNanos: Self.nanos(info.st_mtim),
            changedNanos: Self.nanos(info.st_ctim),
            tags: tags
        )
    }

    /// Nanoseconds since 1970.
    ///
    /// Whoever owns a file gives it any time: years before 1843 and after 2255 are taken for these, so that
    /// times can be subtracted from each other.
    private static func nanos(_ time: timespec) -> Int64 {
        let seconds = min(max(Int64(time.tv_sec), -4_000_000_000), 9_000_000_000)
        return seconds * 1_000_000_000 + Int64(time.tv_nsec)
    }
}

/// The two clocks a watcher reads.
enum WallClock {
    /// Nanoseconds since 1970.
    static func nanos() -> Int64 { read(CLOCK_REALTIME) }
    /// Nanoseconds of a clock that never jumps.
    static func monotonicNanos() -> Int64 { read(CLOCK_MONOTONIC) }

    private static func read(_ clock: clockid_t) -> Int64 {
        var now = timespec()
        clock_gettime(clock, &now)
        return Int64(now.tv_sec) * 1_000_000_000 + Int64(now.tv_nsec)
    }
}
