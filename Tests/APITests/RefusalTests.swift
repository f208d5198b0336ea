// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import API
import Foundation
import MartletCore
import NIOHTTP1
import Testing

@Suite(.timeLimit(.minutes(5)))
struct RefusalTests {
    struct Case: Sendable {
        let method: HTTPMethod
        let path: String
        var body: String?
        var type: String? = "application/json"
        var headers: [(String, String)] = []
        let status: Int
        let says: String

        var testDescription: String { "\(method.rawValue) \(path) \(body ?? "") → \(status)" }
    }

    private static let cases: [Case] = [
        Case(method: .GET, path: "/api/v1/view", status: 404, says: "nothing at /api/v1/view"),
        Case(method: .GET, path: "/api/v1/views/", status: 404, says: "do not end with a slash"),
        Case(method: .PATCH, path: "/api/v1/views/x", status: 405, says: "use DELETE, GET, HEAD, PUT"),
        Case(method: .GET, path: "/api/v1/dead-letters/redrive", status: 405, says: "use POST"),
        Case(method: .GET, path: "/api/v1/views?lmit=3", status: 400, says: "known ones: limit, cursor, name"),
        Case(method: .GET, path: "/api/v1/views?limit=0", status: 400, says: "use 1 to 1000"),
        Case(method: .GET, path: "/api/v1/views?limit=5&limit=6", status: 400, says: "given twice"),
        Case(method: .GET, path: "/api/v1/views?name=%ff", status: 400, says: "UTF-8"),
        Case(method: .GET, path: "/api/v1/logs?since=yesterday", status: 400, says: "RFC 3339"),
        Case(method: .GET, path: "/api/v1/logs?order_by=up", status: 400, says: "use asc, desc"),
        Case(method: .DELETE, path: "/api/v1/views/v/tags?key=k", status: 400, says: "'name' is missing"),
        Case(method: .POST, path: "/api/v1/views?dry_run=yes", body: "{}", status: 400, says: "neither true nor false"),
        Case(method: .POST, path: "/api/v1/views", body: "{\"name\":\n \"x\",}", status: 400, says: "line 2"),
        Case(
            method: .POST,
            path: "/api/v1/views",
            body: "a: [1\nb: 2\n",
            type: "application/yaml",
            status: 400,
            says: "line"
        ),
        Case(
            method: .POST,
            path: "/api/v1/views",
            body: "<x/>",
            type: "application/xml",
            status: 415,
            says: "application/json or application/yaml"
        ),
        Case(method: .POST, path: "/api/v1/views", body: "x", type: "text/plain", status: 415, says: "text/plain"),
        Case(method: .POST, path: "/api/v1/views", body: "[1]", status: 422, says: "must be an object"),
        Case(
            method: .POST,
            path: "/api/v1/views",
            body: #"{"name":"a","path":"/","x":1}"#,
            status: 422,
            says: "is not a field"
        ),
        Case(
            method: .POST,
            path: "/api/v1/sql",
            body: #"{"sql":"SELECT 1"} x"#,
            status: 400,
            says: "byte offset 19, line 1"
        ),
        Case(method: .POST, path: "/api/v1/sql", body: #"{"sql":1}"#, status: 422, says: "must be a string"),
        Case(method: .POST, path: "/api/v1/sql", body: #"{"sql":"SELECT 1","limit":0}"#, status: 422, says: "1000000"),
        Case(method: .POST, path: "/api/v1/sql", body: #"{"query":"SELECT 1"}"#, status: 422, says: "sql: is missing"),
        Case(
            method: .POST,
            path: "/api/v1/sql",
            body: #"{"sql":"S"}"#,
            type: "text/plain",
            status: 415,
            says: "application/json"
        ),
        Case(
            method: .GET,
            path: "/api/v1/views",
            headers: [("accept", "text/html")],
            status: 406,
            says: "accept application/json"
        ),
        Case(
            method: .GET,
            path: "/api/v1/views",
            headers: [("accept", "application/json;q=0, */*;q=0.1")],
            status: 406,
            says: "accept"
        ),
        Case(
            method: .GET,
            path: "/api/v1/views",
            headers: [("origin", "http://evil.example")],
            status: 403,
            says: "evil.example"
        ),
        Case(
            method: .GET,
            path: "/api/v1/views",
            headers: [("host", "evil.example:8070")],
            status: 403,
            says: "loopback"
        ),
        Case(method: .GET, path: "/api/v1/views", body: "{}", status: 413, says: "send no body"),
    ]

    @Test func refusesWithAProblem() async throws {
        try await Harness.run { http in
            for item in Self.cases {
                let answer = try await http.send(
                    item.method,
                    item.path,
                    item.body,
                    type: item.type,
                    headers: item.headers
                )
                #expect(answer.status == item.status, "\(item.testDescription)")
                #expect(answer.headers["content-type"] == ["application/problem+json"], "\(item.testDescription)")
                #expect(answer.text.contains(item.says), "\(item.testDescription): \(answer.text)")
                #expect(answer.json["status"] == .int(Int64(item.status)))
                if item.status == 405 { #expect(answer.headers.contains(name: "allow")) }
            }
        }
    }

    @Test(arguments: ["%FF", "%4", "%zz", "a%C3%28"])
    func refusesPathsThatAreNotUTF8(segment: String) async throws {
        try await Harness.run { http in
            let answer = try await http.raw(
                "GET /api/v1/views/\(segment) HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )
            #expect(answer.hasPrefix("HTTP/1.1 400"))
            #expect(answer.contains("not percent-encoded UTF-8"))
        }
    }

    @Test func namesTheByteThatIsNotUTF8() async throws {
        try await Harness.run { http in
            for path in ["/api/v1/views", "/api/v1/sql"] {
                let body = Array("{\"name\":\n\"".utf8) + [0xC3, 0x28] + Array("\"}".utf8)
                let answer = try await http.send(.POST, path, bytes: body, type: "application/json")
                #expect(answer.status == 400)
                #expect(answer.text.contains("byte offset 10, line 2"), "\(answer.text)")
            }
        }
    }

    @Test func limitsBodies() async throws {
        try await Harness.run({ configuration in
            configuration.documentBytesMax = 1000
            configuration.eventBytesMax = 2000
            configuration.archiveBytesMax = 3000
            configuration.bodyBytesMax = 2500
        }) { http in
            let big = [UInt8](repeating: 0x20, count: 1001)
            #expect(try await http.send(.POST, "/api/v1/views", bytes: big, type: "application/json").status == 413)
            #expect(
                try await http.send(.POST, "/api/v1/topics/default/events", bytes: big + big, type: "application/json")
                    .status == 413
            )
            let archive = [UInt8](repeating: 0x20, count: 2900)
            let busy = try await http.send(.POST, "/api/v1/bundles?name=f", bytes: archive, type: "application/x-tar")
            #expect(busy.status == 503)
            #expect(busy.headers["retry-after"] == ["5"])
            // What was taken was given back.
            #expect(
                try await http.send(
                    .POST,
                    "/api/v1/bundles?name=f",
                    bytes: Array(archive.prefix(2400)),
                    type: "application/x-tar"
                ).status == 200
            )
        }
    }

    @Test func mapsEveryServiceError() async throws {
        struct Failing: FailingTables {
            let code: ServiceError.Code
        }
        let expected: [ServiceError.Code: Int] = [
            .invalid: 422, .notFound: 404, .alreadyExists: 409, .inUse: 409, .failedPrecondition: 409,
            .unauthenticated: 401,
            .forbidden: 403, .tooLarge: 413, .unavailable: 503, .timeout: 504, .storageFull: 507, .storageFailed: 500,
            .internal: 500,
        ]
        for code in ServiceError.Code.allCases {
            let status = try await Harness.runFailing(with: Failing(code: code))
            #expect(status == expected[code], "\(code)")
        }
        #expect(expected.count == ServiceError.Code.allCases.count)
    }
}
