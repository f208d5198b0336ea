// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Glibc

/// One notification of the kernel.
struct InotifyEvent {
    var watch: Int32
    var mask: UInt32
    /// The entry's name; empty for the directory itself, nil where it is not UTF-8.
    var name: String?

    func has(_ bits: Int32) -> Bool { mask & UInt32(bitPattern: bits) != 0 }
    var isDirectory: Bool { has(Int32(IN_ISDIR)) }
}

/// An inotify descriptor.
final class InotifyQueue {
    let descriptor: Int32
    private var buffer = [UInt8](repeating: 0, count: 256 << 10)

    init() throws(ViewError) {
        descriptor = inotify_init1(Int32(IN_NONBLOCK) | Int32(IN_CLOEXEC))
        guard descriptor >= 0 else { throw ViewError("watch with inotify", path: "", systemError: errno) }
    }

    deinit { close(descriptor) }

    /// Watches a directory; an error number instead of a watch where that fails.
    func add(_ path: String, _ mask: UInt32) -> Result<Int32, ViewError> {
        let watch = inotify_add_watch(descriptor, path, mask)
        return watch >= 0 ? .success(watch) : .failure(ViewError("watch", path: path, systemError: errno))
    }

    func remove(_ watch: Int32) {
        _ = inotify_rm_watch(descriptor, watch)
    }

    /// What is waiting, at most one buffer full; empty where nothing is.
    func read() -> [InotifyEvent] {
        let count = Glibc.read(descriptor, &buffer, buffer.count)
        guard count > 0 else { return [] }
        var events: [InotifyEvent] = []
        events.reserveCapacity(count / 32)
        buffer.withUnsafeBytes { bytes in
            var position = 0
            while position + 16 <= count {
                let watch = bytes.loadUnaligned(fromByteOffset: position, as: Int32.self)
                let mask = bytes.loadUnaligned(fromByteOffset: position + 4, as: UInt32.self)
                let length = Int(bytes.loadUnaligned(fromByteOffset: position + 12, as: UInt32.self))
                let padded = bytes[position + 16..<min(position + 16 + length, count)]
                let name = String(validating: padded.prefix { $0 != 0 }, as: UTF8.self)
                events.append(InotifyEvent(watch: watch, mask: mask, name: name))
                position += 16 + length
            }
        }
        return events
    }
}
