// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import KafkaCodec
import NIOCore

/// The header of a request, and where its body begins.
struct RequestHead: Sendable {
    let header: KafkaRequestHeader
    /// Bytes of the frame in front of the body.
    let bodyStart: Int

    /// Reads the header; nil for bytes that have none.
    init?(_ frame: Frame) {
        let read = frame.bytes.withUnsafeReadableBytes { bytes -> (KafkaRequestHeader, Int)? in
            var reader = KafkaReader(bytes)
            guard let header = try? KafkaRequestHeader(from: &reader) else { return nil }
            return (header, reader.position)
        }
        guard let read else { return nil }
        (header, bodyStart) = read
    }

    /// The version, which is one that is served wherever this is asked.
    var version: Int16 { header.version }
    /// Whether the request appends records.
    var isAppend: Bool { header.api == .produce && header.isSupported }

    /// Reads the body.
    func body<Request: KafkaRequest>(_ frame: ByteBuffer, as type: Request.Type) throws(KafkaCodecError) -> Request {
        let read = frame.withUnsafeReadableBytes { bytes -> Result<Request, KafkaCodecError> in
            var reader = KafkaReader(UnsafeRawBufferPointer(rebasing: bytes[bodyStart...]))
            do throws(KafkaCodecError) {
                return .success(try Request(from: &reader, version: version))
            } catch {
                return .failure(error)
            }
        }
        return try read.get()
    }

    /// Bytes of the frame that a message refers to.
    func records(_ records: KafkaRecords, in frame: ByteBuffer) -> [UInt8] {
        frame.withUnsafeReadableBytes { bytes in
            let start = bodyStart + records.reference
            return Array(bytes[start..<start + records.byteCount])
        }
    }

    /// The response as it is sent, where it refers to no records.
    func answer(_ response: some KafkaResponse) throws(KafkaCodecError) -> ResponseQueue.Answer {
        let frame = try response.frame(correlationID: header.correlationID, version: version)
        return .parts([.bytes(ByteBuffer(bytes: frame.bytes))])
    }
}
