// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Broker
package import GRPCCore
import Groups
import MartletCore
import MartletProto
import ServiceLifecycle

/// `martlet.v1.Publisher`: single events, batches and streams of them into the log.
///
/// Registered by hand, because the generated code would make objects of every event first.
package struct PublisherService: RegistrableRPCService {
    private typealias Methods = Martlet_V1_Publisher.Method

    private let publisher: BatchPublisher

    /// Publishes through `publisher`.
    package init(publisher: BatchPublisher) {
        self.publisher = publisher
    }

    /// Registers the three methods.
    package func registerMethods<Transport: ServerTransport>(with router: inout RPCRouter<Transport>) {
        router.registerHandler(
            forMethod: Methods.Publish.descriptor,
            deserializer: PublishDeserializer(shape: .one),
            serializer: EncodedSerializer(),
            handler: { request, _ in
                let message = try await ServerRequest(stream: request).message
                let outcomes = await publisher.publish(message.records)
                let topic = message.records.items.first?.topic ?? 0
                let answer = try PublishAnswer.one(outcomes, message.records.topics, topic)
                return StreamingServerResponse(single: ServerResponse(message: answer))
            }
        )
        router.registerHandler(
            forMethod: Methods.PublishBatch.descriptor,
            deserializer: PublishDeserializer(shape: .batch),
            serializer: EncodedSerializer(),
            handler: { request, _ in
                let message = try await ServerRequest(stream: request).message
                let outcomes = await publisher.publish(message.records)
                var answer: [UInt8] = []
                PublishAnswer.results(outcomes, of: message.records, into: &answer)
                return StreamingServerResponse(single: ServerResponse(message: answer))
            }
        )
        router.registerHandler(
            forMethod: Methods.PublishStream.descriptor,
            deserializer: PublishDeserializer(shape: .stream),
            serializer: EncodedSerializer(),
            handler: { request, _ in
                StreamingServerResponse { writer in
                    try await stream(request.messages, writer)
                    return [:]
                }
            }
        )
    }

    private func stream(
        _ messages: RPCAsyncSequence<PublishMessage, any Error>,
        _ writer: RPCWriter<[UInt8]>
    ) async throws {
        let window = PublishWindow()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                // Only says when the engine stops; where the call ends before, this is cancelled.
                guard (try? await gracefulShutdown()) != nil, !Task.isCancelled else { return }
                window.finish(
                    RPCError(
                        code: .unavailable,
                        message: "the engine is stopping; connect again in a moment and send what was not acknowledged"
                    )
                )
            }
            group.addTask { await read(messages, into: window) }
            while let acknowledgements = try await window.next() { try await writer.write(acknowledgements) }
            group.cancelAll()
        }
    }

    private func read(_ messages: RPCAsyncSequence<PublishMessage, any Error>, into window: PublishWindow) async {
        var topic = ""
        do {
            for try await var message in messages {
                // As long as too much is on its way nothing is read, and HTTP/2 makes the client wait.
                guard await window.enter(message.bytes) else { return }
                if message.records.topics[0].isEmpty { message.records.topics[0] = topic }
                topic = message.records.topics[0]
                let sent = message
                publisher.publish(sent.records) { outcomes in window.leave(sent, outcomes) }
            }
            window.finish(nil)
        } catch {
            window.finish(error)
        }
    }
}
