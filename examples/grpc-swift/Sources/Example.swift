// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import GRPCCore
import GRPCNIOTransportHTTP2Posix
import MartletProto
import SwiftProtobuf

/// Publishes events one by one, as a batch and as a stream, then reads them for a group and acknowledges them.
///
///     grpc-example 8071 readings
@main
struct Example {
    static func main() async throws {
        let arguments = CommandLine.arguments
        let port = arguments.count > 1 ? Int(arguments[1]) ?? 8071 : 8071
        let topic = arguments.count > 2 ? arguments[2] : "readings"
        try await withGRPCClient(
            transport: .http2NIOPosix(target: .ipv4(address: "127.0.0.1", port: port), transportSecurity: .plaintext)
        ) { client in
            let publisher = Martlet_V1_Publisher.Client(wrapping: client)
            let one = try await publisher.publish(
                .with {
                    $0.topic = topic
                    $0.event = event("one")
                }
            )
            print("published one: partition \(one.partition), offset \(one.offset)")
            let batch = try await publisher.publishBatch(
                .with {
                    $0.topic = topic
                    $0.events = (0..<10).map { event("batch-\($0)") }
                }
            )
            print("published a batch: \(batch.results.count { !$0.hasError }) of \(batch.results.count)")
            try await stream(to: topic, publisher)
            try await subscribe(to: topic, count: 21, Martlet_V1_Subscriber.Client(wrapping: client))
        }
    }

    private static func event(_ id: String) -> Martlet_V1_Event {
        .with {
            $0.id = id
            $0.source = "/examples/grpc-swift"
            $0.type = "example:Reading.Taken"
            $0.dataContentType = "text/plain"
            $0.data = Data("reading \(id)".utf8)
        }
    }

    private static func stream(
        to topic: String,
        _ publisher: Martlet_V1_Publisher.Client<HTTP2ClientTransport.Posix>
    ) async throws {
        let numbers = try await publisher.publishStream { writer in
            for number in 1...10 {
                try await writer.write(
                    .with {
                        $0.number = UInt64(number)
                        $0.topic = topic
                        $0.events = [event("stream-\(number)")]
                    }
                )
            }
        } onResponse: { response in
            var numbers: [UInt64] = []
            for try await answer in response.messages {
                numbers += answer.acknowledgements.filter { $0.results.allSatisfy { !$0.hasError } }.map(\.number)
            }
            return numbers
        }
        print("published a stream: \(numbers.count) of 10 acknowledged")
    }

    private static func subscribe(
        to topic: String,
        count: Int,
        _ subscriber: Martlet_V1_Subscriber.Client<HTTP2ClientTransport.Posix>
    ) async throws {
        // What is to be acknowledged goes from the half that reads to the half that writes; its end ends the subscription.
        let (done, acknowledge) = AsyncStream.makeStream(of: [UInt64].self)
        let taken = try await subscriber.subscribe { writer in
            try await writer.write(
                .with {
                    $0.open = .with { open in
                        open.topics = [topic]
                        open.group = "swift-example"
                        open.start = .with { $0.earliest = true }
                    }
                }
            )
            for await ids in done {
                try await writer.write(.with { $0.acknowledge = .with { $0.ids = ids } })
            }
        } onResponse: { response in
            var taken = 0
            for try await answer in response.messages where !answer.deliveries.isEmpty {
                taken += answer.deliveries.count
                acknowledge.yield(answer.deliveries.map(\.id))
                if taken >= count { acknowledge.finish() }
            }
            return taken
        }
        print("read and acknowledged: \(taken)")
    }
}
