// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import CZlib
import Glibc

/// Inflates what senders compressed.
package enum Inflater {
    /// The bytes of gzip or zlib data.
    ///
    /// - Throws: ``OTLPFault`` `.invalidArgument` for damaged data, `.resourceExhausted` for more than `limit` bytes inflated.
    package static func inflate(_ bytes: [UInt8], limit: Int) throws(OTLPFault) -> [UInt8] {
        var output: UnsafeMutablePointer<UInt8>?
        var length = 0
        let code = bytes.withUnsafeBufferPointer { input in
            martlet_inflate(input.baseAddress, input.count, limit, &output, &length)
        }
        defer { free(output) }
        switch code {
        case CInt(MARTLET_INFLATED): return Array(UnsafeBufferPointer(start: output, count: length))
        case CInt(MARTLET_INFLATE_TOO_LARGE):
            throw OTLPFault(
                .resourceExhausted,
                "the body has more than \(limit >> 20) MiB when inflated; send fewer records at once"
            )
        case CInt(MARTLET_INFLATE_DAMAGED):
            throw OTLPFault(.invalidArgument, "the body is not whole gzip or zlib data")
        default: throw OTLPFault(.unavailable, "there is no memory to inflate the body")
        }
    }
}
