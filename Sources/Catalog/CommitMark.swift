// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Crypto
import Foundation
import Synchronization

/// A small file beside a database that says how many commits it has and what its main file holds.
///
/// SQLite takes a write-ahead log from its first bad checksum on for one that was never written, and its pages have no checksums. Both are
/// found out by comparing with this. Format: docs/formats/commit-mark.md.
final class CommitMark: Sendable {
    /// What the mark says.
    struct Content: Equatable {
        /// Commits that are on the disk.
        var commits: Int64 = 0
        /// What the main file holds; nil while it is written to.
        var file: Fingerprint?
    }

    /// Length and SHA-256 of the main file.
    struct Fingerprint: Equatable {
        let bytes: Int64
        let digest: [UInt8]
    }

    /// What was found where the mark should be.
    enum Found: Equatable {
        case absent
        case unreadable
        case content(Content)
    }

    private struct State {
        var descriptor: Int32 = -1
        var sequence: UInt64 = 0
        var content = Content()
    }

    private static let magic = Array("MLCM".utf8)
    private static let version: UInt8 = 1
    /// Two slots are written in turn, in blocks of their own, so that a torn write leaves the other one.
    private static let slotDistance = 4096
    private static let bodyBytes = 72
    private static let slotBytes = bodyBytes + 32

    let path: String
    private let state = Mutex(State())

    init(path: String) {
        self.path = path
    }

    deinit {
        state.withLock { if $0.descriptor >= 0 { close($0.descriptor) } }
    }

    /// What the mark says now.
    var content: Content { state.withLock { $0.content } }

    /// Reads the mark; what it says is what ``change(_:)`` goes on from.
    func load() -> Found {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return errno == ENOENT ? .absent : .unreadable }
        defer { close(descriptor) }
        var best: (sequence: UInt64, content: Content)?
        for slot in 0..<2 {
            var bytes = [UInt8](repeating: 0, count: Self.slotBytes)
            guard pread(descriptor, &bytes, bytes.count, off_t(slot * Self.slotDistance)) == bytes.count,
                let (sequence, content) = Self.decode(bytes), sequence > best?.sequence ?? 0
            else { continue }
            best = (sequence, content)
        }
        guard let best else { return .unreadable }
        state.withLock { state in
            state.sequence = best.sequence
            state.content = best.content
        }
        return .content(best.content)
    }

    /// Changes what the mark says, making the file where there is none; on the disk when it returns.
    ///
    /// Returns the system's error number where that failed, 0 otherwise; the next change writes all of it again.
    func change(_ change: (inout Content) -> Void) -> Int32 {
        state.withLock { state in
            change(&state.content)
            let isNew = state.descriptor < 0 && access(path, F_OK) != 0
            if state.descriptor < 0 {
                state.descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o640)
                guard state.descriptor >= 0 else { return errno }
            }
            state.sequence += 1
            let bytes = Self.encode(state.content, sequence: state.sequence)
            let place = off_t(Int(state.sequence % 2) * Self.slotDistance)
            if isNew {
                // Has its room from now on, also on a disk that becomes full.
                let code = posix_fallocate(state.descriptor, 0, off_t(2 * Self.slotDistance))
                guard code == 0 || code == EOPNOTSUPP || code == EINVAL else { return code }
            }
            let written = pwrite(state.descriptor, bytes, bytes.count, place)
            guard written == bytes.count else { return written < 0 ? errno : EIO }
            guard fdatasync(state.descriptor) == 0 else { return errno }
            if isNew { SQLiteFile.flushDirectory(of: path) }
            return 0
        }
    }

    /// Length and digest of a file that nobody writes to, read through an open descriptor; nil where it cannot be read.
    static func fingerprint(_ descriptor: Int32) -> Fingerprint? {
        var hash = SHA256()
        var buffer = [UInt8](repeating: 0, count: 1 << 18)
        var position: off_t = 0
        while true {
            let count = pread(descriptor, &buffer, buffer.count, position)
            if count == 0 { break }
            guard count > 0 else { return nil }
            buffer.withUnsafeBytes { hash.update(bufferPointer: UnsafeRawBufferPointer(rebasing: $0[..<count])) }
            position += off_t(count)
        }
        return Fingerprint(bytes: Int64(position), digest: Array(hash.finalize()))
    }

    private static func encode(_ content: Content, sequence: UInt64) -> [UInt8] {
        var bytes = magic + [version, content.file == nil ? 0 : 1, 0, 0]
        for number in [sequence, UInt64(bitPattern: content.commits), UInt64(bitPattern: content.file?.bytes ?? 0)] {
            bytes += (0..<8).map { UInt8(truncatingIfNeeded: number >> (56 - 8 * $0)) }
        }
        bytes += content.file?.digest ?? []
        bytes += [UInt8](repeating: 0, count: bodyBytes - bytes.count)
        return bytes + Array(SHA256.hash(data: bytes))
    }

    private static func decode(_ bytes: [UInt8]) -> (UInt64, Content)? {
        guard Array(bytes[..<4]) == magic, bytes[4] == version,
            Array(SHA256.hash(data: bytes[..<bodyBytes])) == Array(bytes[bodyBytes...])
        else { return nil }
        func number(_ at: Int) -> UInt64 { bytes[at..<at + 8].reduce(0) { $0 << 8 | UInt64($1) } }
        var content = Content(commits: Int64(bitPattern: number(16)))
        if bytes[5] == 1 {
            content.file = Fingerprint(bytes: Int64(bitPattern: number(24)), digest: Array(bytes[32..<64]))
        }
        return (number(8), content)
    }
}
