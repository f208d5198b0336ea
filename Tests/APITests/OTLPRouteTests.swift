// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import API
import NIOHTTP1
import Testing

@Suite(.timeLimit(.minutes(5)))
struct OTLPRouteTests {
    @Test func bodiesReachTheReceiverAsTheyAre() async throws {
        try await Harness.run { harness in
            for signal in ["traces", "logs", "metrics"] {
                let answer = try await harness.send(
                    .POST,
                    "/v1/\(signal)",
                    "abc",
                    type: "application/x-protobuf",
                    headers: [("content-encoding", "gzip")]
                )
                #expect(answer.status == 200)
                #expect(answer.headers.first(name: "content-type") == "application/x-protobuf")
                #expect(answer.text == "\(signal) 3 application/x-protobuf gzip")
            }
            let busy = try await harness.send(.POST, "/v1/logs", "", type: "application/json; charset=utf-8")
            #expect(busy.status == 503)
            #expect(busy.headers.first(name: "retry-after") == "7")
            #expect(busy.text == "logs 0 application/json plain")
        }
    }

    @Test func refusalsOfTheServerHaveTheSendersEncodingToo() async throws {
        try await Harness.run {
            $0.token = "secret"
            $0.telemetryBytesMax = 10
        } _: { harness in
            let token = [("authorization", "Bearer secret")]
            let stranger = try await harness.send(.POST, "/v1/logs", "{}")
            #expect((stranger.status, stranger.text) == (401, "unauthenticated application/json"))
            #expect(stranger.headers.first(name: "www-authenticate") == "Bearer")
            let large = try await harness.send(
                .POST,
                "/v1/logs",
                "12345678901",
                type: "application/x-protobuf",
                headers: token
            )
            #expect((large.status, large.text) == (413, "tooLarge application/x-protobuf"))
            let odd = try await harness.send(.POST, "/v1/logs", "x", type: "text/plain", headers: token)
            #expect(odd.status == 415)
            #expect(odd.headers.first(name: "content-type") == "application/x-protobuf")
        }
    }
}
