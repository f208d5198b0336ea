// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation

/// A file descriptor that text is written to, and what is known about what is behind it.
package struct Output: Sendable {
    /// The reader went away; the command ends without a word.
    package struct Closed: Error {}

    /// Open for writing; closed by whoever opened it.
    package let descriptor: Int32
    /// Whether a person looks at it.
    package let isTerminal: Bool
    /// Width of the terminal; nil where there is none, so that nothing is cut.
    package let columns: Int?

    package init(descriptor: Int32, isTerminal: Bool, columns: Int? = nil) {
        self.descriptor = descriptor
        self.isTerminal = isTerminal
        self.columns = columns
    }

    /// A descriptor of this process; `COLUMNS` is believed where the terminal does not tell.
    package init(descriptor: Int32, environment: [String: String]) {
        let isTerminal = isatty(descriptor) == 1
        var size = winsize()
        var columns = environment["COLUMNS"].flatMap { Int($0) }
        if isTerminal, ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 { columns = Int(size.ws_col) }
        self.init(descriptor: descriptor, isTerminal: isTerminal, columns: isTerminal ? columns ?? 80 : nil)
    }

    /// Writes all of `bytes`; blocks, which is fine in a program that has nothing else to do.
    package func write(_ bytes: some Collection<UInt8>) throws {
        let bytes = ContiguousArray(bytes)
        var start = 0
        while start < bytes.count {
            let (count, code) = bytes.withUnsafeBytes { buffer in
                let slice = UnsafeRawBufferPointer(rebasing: buffer[start...])
                let count = Foundation.write(descriptor, slice.baseAddress, slice.count)
                return (count, errno)
            }
            if count >= 0 {
                start += count
            } else if code == EPIPE {
                throw Closed()
            } else if code != EINTR {
                throw CommandFailure(.failure, "cannot write the output: \(String(cString: strerror(code)))")
            }
        }
    }

    /// Writes a line.
    package func line(_ text: String) throws {
        try write((text + "\n").utf8)
    }
}
