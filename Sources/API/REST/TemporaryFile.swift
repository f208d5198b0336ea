// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Hummingbird
import MartletCore
import NIOCore
import NIOPosix

/// A file that exists only to be sent: it loses its name when it is opened, so nothing is left whatever happens.
final class TemporaryFile: Sendable {
    private let descriptor: CInt
    let size: Int

    init(path: String) throws {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw ServiceError(.internal, "\(path): cannot be read: \(String(cString: strerror(errno)))")
        }
        unlink(path)
        let end = lseek(descriptor, 0, SEEK_END)
        guard end >= 0 else {
            close(descriptor)
            throw ServiceError(.internal, "\(path): cannot be examined: \(String(cString: strerror(errno)))")
        }
        self.descriptor = descriptor
        size = Int(end)
    }

    deinit {
        close(descriptor)
    }

    func response(type: String) -> Response {
        let body = ResponseBody(contentLength: size) { writer in
            var offset = 0
            while offset < self.size {
                let bytes = try await self.read(at: offset)
                offset += bytes.count
                try await writer.write(ByteBuffer(bytes: bytes))
            }
            try await writer.finish(nil)
        }
        return Response(status: .ok, headers: [.contentType: type], body: body)
    }

    private func read(at offset: Int) async throws -> [UInt8] {
        try await NIOThreadPool.singleton.runIfActive {
            let bytes = [UInt8](unsafeUninitializedCapacity: 256 << 10) { buffer, count in
                count = max(0, pread(self.descriptor, buffer.baseAddress, buffer.count, off_t(offset)))
            }
            guard !bytes.isEmpty else {
                throw ServiceError(.internal, "a file to send ended early: \(String(cString: strerror(errno)))")
            }
            return bytes
        }
    }
}
