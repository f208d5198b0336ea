// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Broker
package import GRPCCore
import Groups
import MartletCore
import MartletProto

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
        register(Methods.Publish.descriptor, .one, with: &router) { outcomes, records in
            try PublishAnswer.one(outcomes, records.topics, records.items.first?.topic ?? 0)
        }
        register(Methods.PublishBatch.descriptor, .batch, with: &router) { outcomes, records in
            var answer: [UInt8] = []
            PublishAnswer.results(outcomes, of: records, into: &answer)
            return answer
        }
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

    /// Registers a method with one request and one answer.
    private func register<Transport: ServerTransport>(
        _ method: MethodDescriptor,
        _ shape: PublishDeserializer.Shape,
        with router: inout RPCRouter<Transport>,
        answer: @escaping @Sendable ([PublishOutcome], EncodedRecords) throws -> [UInt8]
    ) {
        router.registerHandler(
            forMethod: method,
            deserializer: PublishDeserializer(shape: shape),
            serializer: EncodedSerializer(),
            handler: { request, _ in
                let records = try await ServerRequest(stream: request).message.records
                let outcomes = await publisher.publish(records)
                return StreamingServerResponse(single: ServerResponse(message: try answer(outcomes, records)))
            }
        )
    }

    private func stream(
        _ messages: RPCAsyncSequence<PublishMessage, any Error>,
        _ writer: RPCWriter<[UInt8]>
    ) async throws {
        let window = PublishWindow()
        try await CallLife.run {
            window.finish(
                RPCError(
                    code: .unavailable,
                    message: "the engine is stopping; connect again in a moment and send what was not acknowledged"
                )
            )
        } _: {
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { await read(messages, into: window) }
                defer { group.cancelAll() }
                while let acknowledgements = try await window.next() { try await writer.write(acknowledgements) }
            }
        }
    }

    private func read(_ messages: RPCAsyncSequence<PublishMessage, any Error>, into window: PublishWindow) async {
        var topic = ""
        do {
            for try await var message in messages {
                // As long as too much is on its way nothing is read, and HTTP/2 makes the client wait.
                guard await window.enter(message.weight) else { return }
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
