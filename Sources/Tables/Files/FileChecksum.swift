// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import KafkaCodec
import MartletCore

/// CRC-32C of a whole file.
enum FileChecksum {
    private static let blockBytes = 1 << 20

    /// Reads a file from its begin to its end; blocks.
    ///
    /// - Throws: `.unavailable` with the system's reason where it cannot be read.
    static func of(_ path: String) throws(ServiceError) -> UInt32 {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw failure(path) }
        defer { close(file) }
        posix_fadvise(file, 0, 0, POSIX_FADV_SEQUENTIAL)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: blockBytes, alignment: 64)
        defer { buffer.deallocate() }
        var checksum: UInt32 = 0
        while true {
            let count = read(file, buffer.baseAddress, blockBytes)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw failure(path) }
            guard count > 0 else { return checksum }
            checksum = CRC32C.checksum(UnsafeRawBufferPointer(rebasing: buffer[..<count]), initial: checksum)
        }
    }

    private static func failure(_ path: String) -> ServiceError {
        ServiceError(
            .unavailable,
            "\(path) cannot be read: \(String(cString: strerror(errno)))",
            fix: "look at the disk of the data directory"
        )
    }
}
