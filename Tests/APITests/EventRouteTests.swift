// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import API
import Foundation
import MartletCore
import NIOHTTP1
import Testing

@Suite(.timeLimit(.minutes(5)))
struct EventRouteTests {
    private static let path = "/api/v1/topics/default/events"
    private static let attributes = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "s"), ("ce-type", "t")]

    @Test func takesBinaryEvents() async throws {
        try await Harness.run { http in
            let answer = try await http.send(
                .POST,
                Self.path,
                #"{"n": 1.50}"#,
                headers: Self.attributes + [
                    ("ce-subject", "Gr%C3%BC%C3%9Fe%20%22x%22"), ("ce-elementpath", "a/b"),
                    ("ce-time", "2026-04-08T15:41:29.591955+00:00"),
                ]
            )
            #expect(answer.status == 202)
            #expect(answer.json == ["count": 1])
            let event = try #require(http.test.published.take().first)
            #expect(event.subject == "Grüße \"x\"")
            #expect(event[extension: "elementpath"] == "a/b")
            #expect(event.dataContentType == "application/json")
            #expect(event.data == Array(#"{"n": 1.50}"#.utf8))
            let bytes: [UInt8] = [0, 255, 13, 10]
            #expect(
                try await http.send(.POST, Self.path, bytes: bytes, type: "image/x-exr", headers: Self.attributes)
                    .status == 202
            )
            #expect(http.test.published.take().first?.data == bytes)
            #expect(
                try await http.send(.POST, Self.path, bytes: nil, type: nil, headers: Self.attributes).status == 202
            )
            let empty = try #require(http.test.published.take().first)
            #expect(empty.data == nil && empty.dataContentType == nil)
        }
    }

    @Test func takesStructuredAndBatchedEvents() async throws {
        try await Harness.run { http in
            let one = #"{"specversion":"1.0","id":"1","source":"s","type":"t","data":{"a":[1, 2.0]},"x":true}"#
            let structured = try await http.send(
                .POST,
                Self.path,
                one,
                type: "application/cloudevents+json; charset=utf-8"
            )
            #expect(structured.status == 202)
            let event = try #require(http.test.published.take().first)
            #expect(event.data == Array(#"{"a":[1, 2.0]}"#.utf8) && event[extension: "x"] == "true")
            let batch = try await http.send(
                .POST,
                Self.path,
                "[\(one),\(one)]",
                type: "application/cloudevents-batch+json"
            )
            #expect(batch.json == ["count": 2])
            #expect(http.test.published.take().count == 2)
            let bad = try await http.send(
                .POST,
                Self.path,
                "[\(one),{\"id\":\"2\"}]",
                type: "application/cloudevents-batch+json"
            )
            #expect(bad.status == 422)
            #expect(bad.json["errors"]?.arrayValue?.first?["field"] == "[1].specversion")
            #expect(http.test.published.take().isEmpty)
        }
    }

    private static let refusals: [(String, String, [(String, String)], Int, String)] = [
        (#"{"a":1}"#, "application/json", [], 422, "ce-specversion"),
        (#"{"a":}"#, "application/json", attributes, 400, "byte offset 5"),
        (#"{"#, "application/cloudevents+json", [], 400, "byte offset 1"),
        (#"[]"#, "application/cloudevents+json", [], 422, "must be an object"),
        (#"<e/>"#, "application/cloudevents+xml", [], 415, "application/cloudevents+json"),
        (
            #"1"#, "application/json",
            [("ce-specversion", "0.3"), ("ce-id", "1"), ("ce-source", "s"), ("ce-type", "t")], 422, "CloudEvents 1.0"
        ),
        (#"1"#, "application/json", attributes + [("ce-time", "noon")], 422, "RFC 3339"),
        (#"1"#, "application/json", attributes + [("ce-bad_name", "x")], 422, "lower-case letters and digits"),
        (#"1"#, "application/json", attributes + [("ce-x", "%zz")], 422, "percent-encoded"),
        (#"1"#, "application/json", attributes + [("ce-x", "a%0Ab")], 422, "U+000A"),
    ]

    @Test func refusesWhatIsNoEvent() async throws {
        try await Harness.run { http in
            for (body, type, headers, status, says) in Self.refusals {
                let answer = try await http.send(.POST, Self.path, body, type: type, headers: headers)
                #expect(answer.status == status, "\(body)")
                #expect(answer.text.contains(says), "\(answer.text)")
                #expect(http.test.published.take().isEmpty)
            }
        }
    }
}
