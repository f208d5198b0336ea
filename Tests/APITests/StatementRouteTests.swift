// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import API
import Foundation
import MartletCore
import NIOHTTP1
import Testing

@Suite(.timeLimit(.minutes(5))) struct StatementRouteTests {
    @Test func theBodyReachesTheServiceWhole() async throws {
        let statements = TestStatements()
        try await Harness.run(replacing: { $0.statements = statements }) { http in
            let body = #"""
                {"sql":"SELECT ?","parameters":[1],"timeout_seconds":7,"write":true,"max_staleness":1.5,"as_of":{"t":"12"}}
                """#
            let made = try await http.send(.POST, "/api/v1/statements", body)
            #expect(made.status == 201)
            #expect(made.headers.first(name: "location") == "/api/v1/statements/s1")
            #expect(made.json["progress"]?["seconds_left"] == 1.5)
        }
        let wanted = StatementRequest(
            "SELECT ?",
            parameters: [.int(1)],
            timeout: .seconds(7),
            write: true,
            maxStaleness: .seconds(1.5),
            asOf: ["t": "12"]
        )
        #expect(statements.received == [wanted])
    }

    @Test func rowsComeAsJSONOrArrowAndNotYet() async throws {
        try await Harness.run { http in
            let path = "/api/v1/statements/s1/rows"
            let json = try await http.send(.GET, path)
            #expect(json.text == #"{"columns":[{"name":"a","type":"INTEGER"}],"next_cursor":"2","rows":[[1],[2]]}"#)
            let accept = [("accept", "application/vnd.apache.arrow.stream")]
            let arrow = try await http.send(.GET, path, headers: accept)
            #expect(arrow.body == [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0])
            #expect(arrow.headers.first(name: "x-next-cursor") == "2")
            let last = try await http.send(.GET, path + "?cursor=2", headers: accept)
            #expect(last.headers.first(name: "x-next-cursor") == nil)
            let csv = [("accept", "text/csv")]
            let first = try await http.send(.GET, path, headers: csv)
            #expect(first.text == "a\r\n1\r\n2\r\n")
            #expect(first.headers.first(name: "x-next-cursor") == "2")
            #expect(first.headers.first(name: "content-type") == "text/csv; charset=utf-8")
            #expect(try await http.send(.GET, path + "?cursor=2", headers: csv).text == "1\r\n2\r\n")
            let late = try await http.send(.GET, path + "?cursor=late&wait_ms=0", headers: accept)
            #expect(late.status == 202)
            #expect(late.json["state"] == "running")
            #expect(try await http.send(.GET, path + "?page_size=0").status == 400)
            #expect(try await http.send(.GET, "/api/v1/statements/s2/rows").status == 404)
            #expect(try await http.send(.DELETE, "/api/v1/statements/s1").status == 204)
            #expect(try await http.send(.GET, "/api/v1/statements?active=true").json["data"]?.arrayValue?.count == 1)
        }
    }

    @Test func theReadTokenReadsAndNothingElse() async throws {
        try await Harness.run({
            $0.token = "all-rights"
            $0.readToken = "reading"
        }) { http in
            let reader = [("authorization", "Bearer reading")]
            let query = #"{"sql":"SELECT 1"}"#
            for path in ["/api/v1/views", "/api/v1/tables", "/api/v1/statements", "/api/v1/logs", "/api/v1/engine"] {
                #expect(try await http.send(.GET, path, headers: reader).status == 200, "\(path)")
            }
            #expect(try await http.send(.POST, "/api/v1/sql", query, headers: reader).status == 200)
            #expect(try await http.send(.POST, "/api/v1/statements", query, headers: reader).status == 201)
            #expect(try await http.send(.DELETE, "/api/v1/statements/s1", headers: reader).status == 204)
            let refused = try await http.send(.DELETE, "/api/v1/tables/files", headers: reader)
            #expect(refused.status == 403)
            #expect(refused.text.contains("only read"))
            for path in ["/api/v1/views", "/api/v1/secrets", "/api/v1/topics/default/events", "/api/v1/bundles"] {
                #expect(try await http.send(.POST, path, "{}", headers: reader).status == 403, "\(path)")
            }
            let all = [("authorization", "Bearer all-rights")]
            #expect(try await http.send(.DELETE, "/api/v1/tables/files", headers: all).status == 204)
            #expect(
                try await http.send(.GET, "/api/v1/views", headers: [("authorization", "Bearer readin")]).status == 401
            )
        }
    }

    @Test func readTokensThatHelpNobodyAreRefused() {
        for (token, read) in [(nil, "r"), ("same", "same"), ("t", ""), ("t", "with space")] as [(String?, String)] {
            var configuration = TestServices.configuration()
            configuration.token = token
            configuration.readToken = read
            #expect(throws: ServiceError.self) { try configuration.check() }
        }
    }
}
