// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Glibc
import NIOCore

/// A piece of an answer: bytes, or a stretch of a file that the kernel sends without showing it to this process.
enum ResponsePart: Sendable {
    case bytes(ByteBuffer)
    case file(FileRange)
}

extension ChannelHandlerContext {
    /// Writes a part; false where a file cannot be sent.
    func write(_ part: ResponsePart) -> Bool {
        switch part {
        case .bytes(let buffer):
            write(NIOAny(IOData.byteBuffer(buffer)), promise: nil)
            return true
        case .file(let range):
            // A descriptor of its own: two connections may be sending from one segment, and each has to be closed once.
            let descriptor = dup(range.descriptor)
            guard descriptor >= 0 else { return false }
            let handle = NIOFileHandle(_deprecatedTakingOwnershipOfDescriptor: descriptor)
            let start = Int(range.position)
            let region = FileRegion(fileHandle: handle, readerIndex: start, endIndex: start + range.byteCount)
            let promise = eventLoop.makePromise(of: Void.self)
            promise.futureResult.whenComplete { _ in
                // The range keeps the segment's file until here.
                withExtendedLifetime(range) { try? handle.close() }
            }
            write(NIOAny(IOData.fileRegion(region)), promise: promise)
            return true
        }
    }
}
