// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import API
import Foundation
import MartletCore
import NIOHTTP1
import Testing

@Suite(.timeLimit(.minutes(5)))
struct AnswerFormTests {
    @Test func answersQueriesAsJSONAndCSV() async throws {
        try await Harness.run { http in
            let answer = try await http.send(.POST, "/api/v1/sql", #"{"sql":"SELECT 1","limit":3}"#)
            #expect(
                answer.text
                    == #"{"columns":[{"name":"i","type":"INTEGER"},{"name":"t, x","type":"VARCHAR"}],"rows":[[0,"a,\"b\"\n0"],[1,null],[2,""]],"truncated":true}"#
            )
            #expect(try await http.send(.POST, "/api/v1/sql", #"{"sql":"SELECT 1"}"#).json["truncated"] == false)
            let csv = try await http.send(
                .POST,
                "/api/v1/sql",
                #"{"sql":"SELECT 1"}"#,
                headers: [("accept", "text/csv")]
            )
            #expect(csv.headers["content-type"] == ["text/csv; charset=utf-8"])
            #expect(
                csv.text
                    == "i,\"t, x\"\r\n0,\"a,\"\"b\"\"\n0\"\r\n1,\r\n2,\"\"\r\n3,\"a,\"\"b\"\"\n3\"\r\n4,\"a,\"\"b\"\"\n4\"\r\n"
            )
            let late = try await http.send(.POST, "/api/v1/sql", #"{"sql":"SELECT fail"}"#)
            #expect(late.status == 504)
            #expect(try await http.send(.POST, "/api/v1/sql", #"{"sql":"DROP"}"#).status == 422)
        }
    }

    @Test func metricsAreInTheFormTheScraperAsksFor() async throws {
        try await Harness.run { http in
            let plain = try await http.send(.GET, "/metrics")
            #expect(plain.status == 200 && plain.text == "# TYPE a gauge\na 1\n")
            #expect(plain.headers["content-type"] == ["text/plain; version=0.0.4; charset=utf-8"])
            // What Prometheus 2.42 sends.
            let asked =
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
            let open = try await http.send(.GET, "/metrics", headers: [("accept", asked)])
            #expect(open.status == 200 && open.text.hasSuffix("# EOF\n"))
            #expect(open.headers["content-type"] == ["application/openmetrics-text; version=1.0.0; charset=utf-8"])
            #expect(try await http.send(.GET, "/metrics", headers: [("accept", "image/png")]).status == 406)
        }
    }

    @Test func aFailingCSVStreamIsCutOffAndNotEnded() async throws {
        try await Harness.run { http in
            let body = #"{"sql":"SELECT fail"}"#
            let answer = try await http.raw(
                "POST /api/v1/sql HTTP/1.1\r\nHost: localhost\r\nAccept: text/csv\r\nContent-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
            )
            #expect(answer.hasPrefix("HTTP/1.1 200"))
            #expect(!answer.hasSuffix("0\r\n\r\n"))
        }
    }

    @Test func streamsAnExportAndLeavesNoFile() async throws {
        try await Harness.run { http in
            let before = try Self.exports()
            let answer = try await http.send(.GET, "/api/v1/tables/files/export?format=csv")
            #expect(answer.status == 200)
            #expect(answer.body.count == 800_000)
            #expect(answer.headers["content-disposition"] == ["attachment; filename=\"files.csv\""])
            #expect(try Self.exports().isSubset(of: before))
            #expect(try await http.send(.GET, "/api/v1/tables/none/export").status == 404)
        }
    }

    private static func exports() throws -> Set<String> {
        Set(
            try FileManager.default.contentsOfDirectory(atPath: FileManager.default.temporaryDirectory.path)
                .filter { $0.hasPrefix("martlet-export-") }
        )
    }

    @Test func streamsABuild() async throws {
        try await Harness.run { http in
            let good = try await http.send(
                .POST,
                "/api/v1/bundles?name=f&clear_cache=true",
                bytes: [1, 2, 3],
                type: "application/x-tar"
            )
            #expect(good.headers["content-type"] == ["application/x-ndjson"])
            let lines = good.text.split(separator: "\n")
            #expect(lines.first == #"{"line":"3 bytes of f:latest, main.py, anew"}"#)
            #expect(try JSONValue(parsing: String(lines[1]))["bundle"]?["python_version"] == "3.11.2")
            let bad = try await http.send(.POST, "/api/v1/bundles?name=broken", bytes: [1], type: "application/x-tar")
            let error = try JSONValue(parsing: String(try #require(bad.text.split(separator: "\n").last)))["error"]
            #expect(error?["detail"] == "main.py: SyntaxError")
            #expect(error?["trace"] == "Traceback" && error?["fix"] == "correct line 3")
            #expect(try await http.send(.POST, "/api/v1/bundles?name=f", bytes: [], type: nil).status == 422)
        }
    }

    @Test func headGivesTheHeadOfGet() async throws {
        try await Harness.run { http in
            for path in ["/api/v1/views", "/api/v1/tables/files/export", "/openapi.json"] {
                let get = try await http.send(.GET, path)
                let head = try await http.send(.HEAD, path)
                #expect(head.status == 200)
                #expect(head.body.isEmpty)
                #expect(head.headers["content-length"] == get.headers["content-length"])
            }
            #expect(try await http.send(.HEAD, "/api/v1/views/none").status == 404)
            #expect(try await http.send(.HEAD, "/api/v1/sql").status == 405)
        }
    }

    @Test func saysWhyItIsNotReady() async throws {
        try await Harness.run(obstacles: ["the log is being recovered"]) { http in
            let answer = try await http.send(.GET, "/readyz")
            #expect(answer.status == 503)
            #expect(answer.json["detail"] == "the engine is not ready: the log is being recovered")
            #expect(try await http.send(.GET, "/healthz").status == 200)
        }
    }

    @Test func everyAnswerHasARequestID() async throws {
        try await Harness.run { http in
            let first = try await http.send(.GET, "/nothing")
            let id = try #require(first.headers.first(name: "x-request-id"))
            #expect(UUID(uuidString: id) != nil)
            #expect(first.json["instance"] == .string("urn:martlet:request:\(id)"))
            let given = try await http.send(.GET, "/healthz", headers: [("X-Request-Id", "my-id.1")])
            #expect(given.headers["x-request-id"] == ["my-id.1"])
            let bad = try await http.send(.GET, "/healthz", headers: [("X-Request-Id", "a b\"<")])
            #expect(bad.headers["x-request-id"] != ["a b\"<"])
        }
    }
}
