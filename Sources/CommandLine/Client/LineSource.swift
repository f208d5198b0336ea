// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation

/// The lines of a file or of standard input, one after the other, without waiting where nothing comes.
final class LineSource {
    enum Step {
        case line([UInt8], number: Int)
        /// Nothing has come for a moment.
        case nothingYet
    }

    /// The longest line taken.
    private static let lineBytesMax = 64 << 20
    private static let pauseMilliseconds: Int32 = 50

    /// How messages call it.
    let name: String
    private let descriptor: Int32
    private let ownsDescriptor: Bool
    private var buffer: [UInt8] = []
    private var position = 0
    private var number = 0
    private var isAtEnd = false
    private var hasPaused = false

    init(_ argument: String, session: Session) throws {
        guard argument != "-" else {
            name = "standard input"
            descriptor = session.input
            ownsDescriptor = false
            return
        }
        name = argument
        descriptor = open(argument, O_RDONLY | O_CLOEXEC)
        ownsDescriptor = true
        guard descriptor >= 0 else {
            let code = errno
            throw CommandFailure(
                code == ENOENT ? .notFound : .failure,
                "cannot read \(argument): \(String(cString: strerror(code)))",
                fix: code == ENOENT ? "correct the path; it is looked for from the current folder" : nil
            )
        }
    }

    deinit {
        if ownsDescriptor, descriptor >= 0 { close(descriptor) }
    }

    /// The next line without its line feed, or nil behind the last one.
    func next() throws -> Step? {
        while true {
            if let end = buffer[position...].firstIndex(of: 0x0A) { return line(endingAt: end, skipping: 1) }
            if isAtEnd { return position < buffer.count ? line(endingAt: buffer.count, skipping: 0) : nil }
            guard buffer.count - position <= Self.lineBytesMax else {
                throw CommandFailure(
                    .refused,
                    "line \(number + 1) of \(name) has more than \(Self.lineBytesMax >> 20) MiB",
                    fix: "use --whole for a file that is one record"
                )
            }
            guard try isReadable() else {
                if InterruptFlag.isRaised { return nil }
                if hasPaused { continue }
                hasPaused = true
                return .nothingYet
            }
            hasPaused = false
            try fill()
        }
    }

    private func line(endingAt end: Int, skipping count: Int) -> Step {
        let line = Array(buffer[position..<end])
        position = end + count
        number += 1
        return .line(line, number: number)
    }

    private func isReadable() throws -> Bool {
        var waited = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        let count = poll(&waited, 1, hasPaused ? 500 : Self.pauseMilliseconds)
        guard count >= 0 || errno == EINTR else {
            throw CommandFailure(.failure, "cannot read \(name): \(String(cString: strerror(errno)))")
        }
        return count > 0
    }

    private func fill() throws {
        buffer.removeFirst(position)
        position = 0
        var chunk = [UInt8](repeating: 0, count: 1 << 18)
        let count = read(descriptor, &chunk, chunk.count)
        if count == 0 { isAtEnd = true }
        guard count >= 0 || errno == EINTR else {
            throw CommandFailure(.failure, "cannot read \(name): \(String(cString: strerror(errno)))")
        }
        if count > 0 { buffer += chunk[..<count] }
    }
}
