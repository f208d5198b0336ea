// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Keeps the last bytes a worker wrote, so that its end can be explained.
final class OutputTail: Sendable {
    private static let bytesMax = 8 << 10
    private let bytes = Mutex<[UInt8]>([])

    func append(_ chunk: some Collection<UInt8>) {
        bytes.withLock { bytes in
            bytes.append(contentsOf: chunk.suffix(Self.bytesMax))
            if bytes.count > Self.bytesMax * 2 { bytes.removeFirst(bytes.count - Self.bytesMax) }
        }
    }

    var text: String {
        bytes.withLock { String(decoding: $0.suffix(Self.bytesMax), as: UTF8.self) }
    }
}
