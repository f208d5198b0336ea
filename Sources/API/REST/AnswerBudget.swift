// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Hummingbird
import MartletCore
import NIOCore
import Synchronization

/// How many bytes of large answers are held at once until their clients have taken them, over all connections.
///
/// One answer is given whatever its size.
final class AnswerBudget: Sendable {
    /// Answers up to this are not counted, and larger ones are handed over in pieces of it.
    private static let pieceBytes = 64 << 10

    /// What one answer has of the budget; given back when the last reference goes.
    private final class Loan: Sendable {
        let budget: AnswerBudget
        let count: Int

        init(_ budget: AnswerBudget, _ count: Int) {
            self.budget = budget
            self.count = count
        }

        deinit { budget.used.withLock { $0 -= count } }
    }

    private let limit: Int
    private let used = Mutex(0)

    init(limit: Int) {
        self.limit = limit
    }

    /// The body of an answer; what cannot be refused any more is counted only.
    ///
    /// - Throws: `Refusal` 503 where too much waits for its clients.
    func body(_ bytes: [UInt8], mayBeRefused: Bool) throws -> ResponseBody {
        let buffer = ByteBuffer(bytes: bytes)
        guard bytes.count > Self.pieceBytes else { return ResponseBody(byteBuffer: buffer) }
        let isTaken = used.withLock { used in
            guard !mayBeRefused || used == 0 || used + bytes.count <= limit else { return false }
            used += bytes.count
            return true
        }
        guard isTaken else { throw Self.busy() }
        let loan = Loan(self, bytes.count)
        return ResponseBody(contentLength: bytes.count) { writer in
            var rest = buffer
            while let piece = rest.readSlice(length: min(Self.pieceBytes, rest.readableBytes)), piece.readableBytes > 0
            {
                try await writer.write(piece)
            }
            try await writer.finish(nil)
            withExtendedLifetime(loan) {}
        }
    }

    private static func busy() -> Refusal {
        var refusal = Refusal(
            .serviceUnavailable,
            code: ServiceError.Code.unavailable.rawValue,
            ServiceError(
                .unavailable,
                "too many large answers wait for their callers to take them",
                fix: "try again in a few seconds, or ask for less at once"
            )
        )
        refusal.headers = [("Retry-After", "5")]
        return refusal
    }
}
