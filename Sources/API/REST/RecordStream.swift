// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import Hummingbird
import Logging
import MartletCore
import NIOCore
import ServiceLifecycle
import Synchronization

/// How many callers follow topics at once.
final class RecordReaders: Sendable {
    /// Each keeps one connection; some are left for everybody else.
    static let countMax = 256

    private let count = Atomic<Int>(0)

    var isFull: Bool { count.load(ordering: .relaxed) >= Self.countMax }

    /// Becomes one of them, until ``leave()``; false where there are too many.
    func enter() -> Bool {
        guard count.wrappingAdd(1, ordering: .relaxed).newValue > Self.countMax else { return true }
        leave()
        return false
    }

    func leave() { count.wrappingSubtract(1, ordering: .relaxed) }
}

/// Records as server-sent events, as they come.
///
/// Nothing is read ahead of the caller: while the connection takes nothing, the log is not read either, and the connection's guard
/// closes one that takes nothing for long.
enum RecordStream {
    private static let heartbeat = Duration.seconds(10)
    private static let bytesMax = 256 << 10
    private static let recordsMax = 1000
    /// With more partitions than this an id stands at the end of each group of events, because it names all of them.
    private static let partitionsWithIDs = 32

    static func response(
        _ call: Call,
        _ service: any RecordServices,
        from place: TopicPosition,
        _ readers: RecordReaders
    ) throws -> Response {
        let full = ServiceError(
            .unavailable,
            "\(RecordReaders.countMax) callers follow topics already",
            fix: "try again later, or read pages with ?cursor=…&wait=…"
        )
        guard !readers.isFull else { throw full }
        let body = ResponseBody { writer in
            let isIn = readers.enter()
            defer { if isIn { readers.leave() } }
            var last: ServiceError?
            do {
                // Others may have come since the answer was begun.
                guard isIn else { throw full }
                try await writer.write(ByteBuffer(string: "retry: 2000\nid: \(place.text)\n\n"))
                var follower = Follower(call: call, service: service, position: place)
                while let bytes = try await follower.next() { try await writer.write(ByteBuffer(bytes: bytes)) }
            } catch is CancellationError {
                // The engine ends, or the caller has gone.
            } catch let error as ServiceError {
                last = error
            } catch {
                guard let explained = call.configuration.explain(error) else { throw error }
                last = explained
            }
            if let last {
                let text = JSONValue.object(
                    JSONObject(members: [
                        .init(key: "code", value: .string(last.code.rawValue)),
                        .init(key: "detail", value: .string(last.message)),
                    ])
                ).text
                try await writer.write(ByteBuffer(string: "event: error\ndata: \(text)\n\n"))
            }
            try await writer.finish(nil)
        }
        return Response(status: .ok, headers: [.contentType: "text/event-stream; charset=utf-8"], body: body)
    }

    /// What a caller is sent, piece by piece.
    private struct Follower {
        let call: Call
        let service: any RecordServices
        var position: TopicPosition

        /// The next events, or a comment where there are none for a while; nil when the engine ends.
        mutating func next() async throws -> [UInt8]? {
            while !Task.isShuttingDownGracefully {
                let page = try await service.read(call.id, from: position, limit: recordsMax, bytesMax: bytesMax)
                let before = position
                position = page.next
                if !page.records.isEmpty { return events(page, from: before) }
                if before != position, !page.isAtEnd { continue }
                let reached = position
                let (call, service) = (call, service)
                let isThere = try await cancelWhenGracefulShutdown {
                    try await service.wait(call.id, behind: reached, atMost: heartbeat)
                }
                if isThere { continue }
                // Partitions added meanwhile, where all are followed.
                if call.query.all("partition").isEmpty { position = try await service.completed(position, call.id) }
                return Array(": nothing new\n\n".utf8)
            }
            return nil
        }
    }

    private static func events(_ page: RecordPage, from start: TopicPosition) -> [UInt8] {
        var bytes: [UInt8] = []
        var position = start
        let hasIDs = start.offsets.count <= partitionsWithIDs
        for (index, record) in page.records.enumerated() {
            position.offsets[record.partition] = record.offset + 1
            let isLast = index + 1 == page.records.count
            if hasIDs || isLast {
                bytes += Array("id: \(isLast ? page.next.text : position.text)\n".utf8)
            }
            bytes += Array("data: ".utf8)
            RecordJSON.append(record, to: &bytes)
            bytes += [0x0A, 0x0A]
        }
        return bytes
    }
}
