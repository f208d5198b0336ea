// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import NIOCore

/// A piece of an answer: bytes, or a stretch of a file that the kernel sends without showing it to this process.
enum ResponsePart: Sendable {
    case bytes(ByteBuffer)
    case file(FileRange)

    /// Bytes that are sent.
    var byteCount: Int {
        switch self {
        case .bytes(let buffer): buffer.readableBytes
        case .file(let range): range.byteCount
        }
    }

    /// Bytes of memory.
    var memoryBytes: Int {
        switch self {
        case .bytes(let buffer): buffer.readableBytes
        case .file: 0
        }
    }
}

extension ChannelHandlerContext {
    /// Writes a part; the promise is fulfilled when it is sent, or cannot be.
    func write(_ part: ResponsePart, promise: EventLoopPromise<Void>?) {
        switch part {
        case .bytes(let buffer): write(NIOAny(IOData.byteBuffer(buffer)), promise: promise)
        case .file(let range):
            // A handle of its own on the segment's descriptor, which stays the range's: nothing is opened or closed here.
            let handle = NIOFileHandle(_deprecatedTakingOwnershipOfDescriptor: range.descriptor)
            let start = Int(range.position)
            let region = FileRegion(fileHandle: handle, readerIndex: start, endIndex: start + range.byteCount)
            let sent = promise ?? eventLoop.makePromise(of: Void.self)
            sent.futureResult.whenComplete { _ in
                // The range keeps the segment's file open until here. A handle can be released once its descriptor is taken back.
                withExtendedLifetime(range) { _ = try? handle.takeDescriptorOwnership() }
            }
            write(NIOAny(IOData.fileRegion(region)), promise: sent)
        }
    }
}
