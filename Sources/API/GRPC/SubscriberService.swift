// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Broker
import EventLog
package import GRPCCore
import GRPCProtobuf
import KafkaCodec
package import MartletCore
import MartletProto
import SwiftProtobuf

/// `martlet.v1.Subscriber`: records out of the log, for groups that acknowledge and for readers on their own.
package struct SubscriberService: RegistrableRPCService {
    private let hub: SubscriptionHub
    private let reader: TopicReader
    private let explain: @Sendable (any Error) -> ServiceError

    /// Reads for groups through `hub`, and for others through `reader`; `explain` turns errors into what callers are told.
    package init(
        hub: SubscriptionHub,
        reader: TopicReader,
        explain: @escaping @Sendable (any Error) -> ServiceError
    ) {
        self.hub = hub
        self.reader = reader
        self.explain = explain
    }

    /// Registers the one method.
    package func registerMethods<Transport: ServerTransport>(with router: inout RPCRouter<Transport>) {
        router.registerHandler(
            forMethod: Martlet_V1_Subscriber.Method.Subscribe.descriptor,
            deserializer: ProtobufDeserializer<Martlet_V1_SubscribeRequest>(),
            serializer: EncodedSerializer(),
            handler: { request, context in
                let mayOnlyRead = TokenInterceptor.isReader(request.metadata)
                return StreamingServerResponse { writer in
                    do {
                        try await subscribe(request.messages, writer, context.remotePeer, mayOnlyRead)
                    } catch let error as RPCError {
                        throw error
                    } catch let error as CancellationError {
                        throw error
                    } catch {
                        throw RPCError(explain(error))
                    }
                    return [:]
                }
            }
        )
    }

    private func subscribe(
        _ messages: RPCAsyncSequence<Martlet_V1_SubscribeRequest, any Error>,
        _ writer: RPCWriter<[UInt8]>,
        _ peer: String,
        _ mayOnlyRead: Bool
    ) async throws {
        let call = SubscribeCall()
        try await CallLife.run {
            call.fail(ServiceError(.unavailable, "the engine is stopping", fix: "subscribe again in a moment"))
        } _: {
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { await call.read(messages) }
                defer { group.cancelAll() }
                guard let open = try await call.opened() else { return }
                if open.group.isEmpty {
                    let plan = try SubscribePlan(open)
                    group.addTask {
                        do {
                            try await read(plan, writer)
                            call.complete()
                        } catch {
                            // Said to the body, which waits for it and not for this task.
                            call.fail(error as? ServiceError ?? explain(error))
                        }
                    }
                    try await call.completion()
                } else {
                    try await deliver(open, call, writer, peer, mayOnlyRead)
                }
            }
        }
    }

    // MARK: With a group

    private func deliver(
        _ open: Martlet_V1_Open,
        _ call: SubscribeCall,
        _ writer: RPCWriter<[UInt8]>,
        _ peer: String,
        _ mayOnlyRead: Bool
    ) async throws {
        guard !mayOnlyRead else {
            throw RPCError(
                code: .permissionDenied,
                message:
                    "this token may only read; a group's position changes with what is acknowledged: leave out the group, or use the engine's own token"
            )
        }
        let handle = try await hub.subscribe(try SubscribePlan(open).request(peer: peer), call.queue)
        defer { handle.leave() }
        try await writer.write(Self.opened(handle.positions))
        call.begin(handle)
        while true {
            try Task.checkCancellation()
            let news = call.queue.news()
            if !news.committed.isEmpty { try await writer.write(Self.committed(news.committed)) }
            if let failure = news.failure { throw RPCError(failure) }
            if news.isEnded {
                // What it was given and has not acknowledged goes to others.
                let isStored = await handle.flush()
                let last = call.queue.news().committed
                if !last.isEmpty { try await writer.write(Self.committed(last)) }
                if let failure = call.failure ?? call.queue.news().failure.map({ RPCError($0) }) { throw failure }
                guard isStored else { throw RPCError(Self.notStored) }
                return
            }
            if let deliveries = handle.takeDeliveries() {
                try await writer.write(deliveries.bytes)
            } else {
                await call.queue.wait()
            }
        }
    }

    private static let notStored = ServiceError(
        .unavailable,
        "what was acknowledged cannot be stored now, so it is delivered again",
        fix: "subscribe again in a moment; the engine's log has the cause, which may be a full disk"
    )

    private static func opened(_ positions: [(partition: TopicPartition, offset: Int64)]) throws -> [UInt8] {
        let response = Martlet_V1_SubscribeResponse.with { response in
            response.opened = .with { $0.positions = positions.map(offset) }
        }
        return try response.serializedBytes()
    }

    private static func committed(_ offsets: [TopicPartition: Int64]) throws -> [UInt8] {
        let sorted = offsets.sorted { ($0.key.topic, $0.key.partition) < ($1.key.topic, $1.key.partition) }
        let response = Martlet_V1_SubscribeResponse.with { response in
            response.committed = sorted.map { offset(($0.key, $0.value)) }
        }
        return try response.serializedBytes()
    }

    private static func offset(_ one: (partition: TopicPartition, offset: Int64)) -> Martlet_V1_PartitionOffset {
        .with {
            $0.topic = one.partition.topic
            $0.partition = one.partition.partition
            $0.offset = one.offset
        }
    }

    // MARK: Without a group

    private func read(_ plan: SubscribePlan, _ writer: RPCWriter<[UInt8]>) async throws {
        let shares = try await reader.shares(topics: plan.topics, start: plan.start, stopsAtEnd: plan.stopsAtEnd)
        try await writer.write(Self.opened(shares.map { ($0.partition, $0.start) }))
        var encoder = DeliveryEncoder()
        try await reader.read(
            shares,
            messageBytesMax: DeliveryQueue.messageBytes,
            encode: { record, partition, bytes in
                guard plan.filter?.lets(record.key) ?? true else { return }
                encoder.append(record, of: partition, id: 0, attempt: 1, to: &bytes)
            },
            send: { try await writer.write($0) }
        )
    }
}
