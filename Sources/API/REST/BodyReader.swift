// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Hummingbird
import MartletCore
import NIOCore
import Synchronization

/// How many bytes of request bodies and of what is made of them are held at once, over all connections.
final class BodyBudget: Sendable {
    private let limit: Int
    private let used = Mutex(0)

    init(limit: Int) {
        self.limit = limit
    }

    func take(_ count: Int) -> Bool {
        used.withLock { used in
            guard used + count <= limit else { return false }
            used += count
            return true
        }
    }

    func giveBack(_ count: Int) {
        used.withLock { $0 -= count }
    }

    /// For tests.
    var inUse: Int { used.withLock { $0 } }
}

/// Reads bodies whole, within their limit, the budget and a deadline.
struct BodyReader: Sendable {
    /// Bytes of memory that a value of a tree of JSON takes at the most, beside the text of strings.
    private static let valueBytes = 128
    /// Most values of a body of JSON.
    private static let valuesMax = 4_000_000

    let budget: BodyBudget
    let configuration: APIConfiguration

    func limit(_ body: Route.Body) -> Int {
        switch body {
        case .none: 0
        case .document, .json: configuration.documentBytesMax
        case .archive: configuration.archiveBytesMax
        case .events, .records: configuration.eventBytesMax
        case .otlp: configuration.telemetryBytesMax
        }
    }

    /// What will be made of a body while it is answered, in bytes of memory, before any of it is made.
    ///
    /// - Throws: `Refusal` 413 where a body of JSON has more values than are taken.
    func weight(_ bytes: [UInt8], _ body: Route.Body, isCompressed: Bool) throws -> Int {
        switch body {
        case .none, .archive: return 0
        case .events: return bytes.count
        case .otlp: return 4 * (isCompressed ? min(configuration.telemetryBytesMax, 16 * bytes.count) : bytes.count)
        // Its parser has bounds of its own.
        case .document: return 8 * bytes.count
        case .json, .records:
            let count = JSONCursor.valueCountMax(bytes)
            guard count <= Self.valuesMax else {
                throw Refusal(
                    .contentTooLarge,
                    code: ServiceError.Code.tooLarge.rawValue,
                    ServiceError(
                        .tooLarge,
                        "the body has \(count) values; at most \(Self.valuesMax) are taken",
                        fix: "send less at once"
                    )
                )
            }
            return bytes.count + count * Self.valueBytes
        }
    }

    /// Runs `use` with the whole body; its bytes, and those that `weigh` says of it, count against the budget until it returns.
    func withBody<T: Sendable>(
        of request: Request,
        from source: RequestBody,
        limit: Int,
        channel: any Channel,
        weigh: ([UInt8]) throws -> Int = { _ in 0 },
        _ use: ([UInt8]) async throws -> T
    ) async throws -> T {
        let length = request.headers[.contentLength].flatMap { Int($0) }
        if let length, length > limit { throw Self.tooLarge(length, limit) }
        var bytes: [UInt8] = []
        var taken = 0
        defer { budget.giveBack(taken) }
        do {
            let deadline = deadline(length ?? limit, channel)
            defer { deadline.cancel() }
            for try await buffer in source {
                let count = buffer.readableBytes
                guard bytes.count + count <= limit else { throw Self.tooLarge(length, limit) }
                guard budget.take(count) else { throw Self.busy() }
                taken += count
                if bytes.isEmpty, let length { bytes.reserveCapacity(min(length, 16 << 20)) }
                bytes.append(contentsOf: buffer.readableBytesView)
            }
        }
        if let length, bytes.count != length {
            throw Refusal.malformed(
                "the body ended after \(bytes.count) of \(length) bytes",
                fix: "send as many bytes as Content-Length says"
            )
        }
        let weight = try weigh(bytes)
        guard budget.take(weight) else { throw Self.busy() }
        taken += weight
        return try await use(bytes)
    }

    /// Closes the connection of a client that sends its body too slowly.
    private func deadline(_ count: Int, _ channel: any Channel) -> Scheduled<Void> {
        let seconds = configuration.idleSeconds + count / configuration.bodyBytesPerSecondMin
        return channel.eventLoop.scheduleTask(in: .seconds(Int64(seconds))) { channel.close(promise: nil) }
    }

    private static func tooLarge(_ length: Int?, _ limit: Int) -> Refusal {
        let size = length.map { "has \($0) bytes" } ?? "is too large"
        return Refusal(
            .contentTooLarge,
            code: ServiceError.Code.tooLarge.rawValue,
            ServiceError(
                .tooLarge,
                "the body \(size); at most \(limit) bytes are taken here",
                fix: limit == 0 ? "send no body" : "send less at once"
            )
        )
    }

    private static func busy() -> Refusal {
        var refusal = Refusal(
            .serviceUnavailable,
            code: ServiceError.Code.unavailable.rawValue,
            ServiceError(.unavailable, "too many large bodies are being received", fix: "try again in a few seconds")
        )
        refusal.headers = [("Retry-After", "5")]
        return refusal
    }
}
