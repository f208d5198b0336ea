// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import API
import Foundation
import MartletCore
import NIOHTTP1
import Testing

@Suite(.timeLimit(.minutes(5)))
struct TableRouteTests {
    private static let document = "name: trips\ntopic: default\ncolumns:\n  - {name: fare, type: DOUBLE}\n"

    @Test func aTableLivesItsLife() async throws {
        try await Harness.run { http in
            let tried = try await http.send(
                .POST,
                "/api/v1/tables?dry_run=true",
                Self.document,
                type: "application/yaml"
            )
            #expect(tried.status == 200 && tried.json["name"] == "trips")
            #expect(try await http.send(.GET, "/api/v1/tables/trips").status == 404)

            let made = try await http.send(.POST, "/api/v1/tables", Self.document, type: "application/yaml")
            #expect(made.status == 201)
            #expect(made.headers["location"] == ["/api/v1/tables/trips"])
            let found = try await http.send(.GET, "/api/v1/tables/trips")
            #expect(found.body == made.body)
            #expect(found.json["kind"] == "append" && found.json["topic"] == "default")
            #expect(found.json["state"] == "running" && found.json["fresh_rows"] == 12)
            #expect(found.json["lag_seconds"] == .double(0.25))
            #expect(found.json["columns"]?.arrayValue?.first?["is_system"] == true)
            #expect(found.json["settings"]?["commit_seconds"] == 10)
            #expect(found.json["last_commit"]?["number"] == 3)
            #expect(found.json["reason"] == nil)

            let changed = try await http.send(.PUT, "/api/v1/tables/trips", #"{"commit_seconds":60}"#)
            #expect(changed.status == 200 && changed.json["settings"]?["commit_seconds"] == 60)
            #expect(try await http.send(.DELETE, "/api/v1/topics/default").json["code"] == "inUse")
            #expect(try await http.send(.DELETE, "/api/v1/tables/trips").status == 204)
            #expect(try await http.send(.GET, "/api/v1/tables/trips").status == 404)
        }
    }

    @Test func refusesATopicThatIsNotThereAndANameThatIsTaken() async throws {
        try await Harness.run { http in
            #expect(try await http.send(.POST, "/api/v1/tables", #"{"name":"a","topic":"none"}"#).status == 404)
            #expect(try await http.send(.POST, "/api/v1/tables", #"{"name":"a"}"#).status == 422)
            #expect(try await http.send(.POST, "/api/v1/tables", #"{"name":"a","topic":"default"}"#).status == 201)
            let again = try await http.send(.POST, "/api/v1/tables", #"{"name":"a","topic":"default"}"#)
            #expect(again.status == 409 && again.json["code"] == "alreadyExists")
        }
    }

    @Test func listsTablesOfATopic() async throws {
        try await Harness.run { http in
            _ = try await http.send(.POST, "/api/v1/tables", Self.document, type: "application/yaml")
            func names(_ query: String) async throws -> [String] {
                let page = try await http.send(.GET, "/api/v1/tables\(query)").json
                return (page["data"]?.arrayValue ?? []).compactMap { $0["name"]?.stringValue }
            }
            #expect(try await names("") == ["files", "trips"])
            #expect(try await names("?topic=default") == ["trips"])
            #expect(try await names("?topic=other") == [])
            #expect(try await http.send(.GET, "/api/v1/tables?topics=x").status == 400)
        }
    }

    @Test func listsCommitsInPages() async throws {
        try await Harness.run { http in
            _ = try await http.send(.POST, "/api/v1/tables", Self.document, type: "application/yaml")
            let first = try await http.send(.GET, "/api/v1/tables/trips/history?limit=2").json
            #expect(first["data"]?.arrayValue?.map { $0["number"] } == [3, 2])
            #expect(first["data"]?.arrayValue?.first?["ranges"]?.arrayValue?.first?["to"] == 33)
            #expect(first["pagination"]?["next_cursor"] == "2")
            let last = try await http.send(.GET, "/api/v1/tables/trips/history?limit=2&cursor=2").json
            #expect(last["data"]?.arrayValue?.map { $0["number"] } == [1])
            #expect(last["pagination"]?["next_cursor"] == .null)
            #expect(try await http.send(.GET, "/api/v1/tables/trips/history?cursor=x").status == 422)
            #expect(try await http.send(.GET, "/api/v1/tables/files/history").status == 409)
        }
    }

    @Test func commitsCompactsReplaysAndRepairs() async throws {
        try await Harness.run { http in
            _ = try await http.send(.POST, "/api/v1/tables", Self.document, type: "application/yaml")
            _ = try await http.send(.POST, "/api/v1/tables", #"{"name":"idle","topic":"default"}"#)
            func post(_ path: String) async throws -> JSONValue {
                let answer = try await http.send(.POST, "/api/v1/tables/\(path)")
                #expect(answer.status == 200, "\(path): \(answer.text)")
                return answer.json
            }
            #expect(try await post("trips/commit")["commit"]?["number"] == 4)
            #expect(try await post("idle/commit") == ["commit": .null])
            let compaction = try await post("trips/compact")
            #expect(compaction["files_before"] == 3 && compaction["files_after"] == 1)
            #expect(compaction["commit"]?["kind"] == "compaction")
            #expect(try await post("trips/replay")["still_rejected"] == 1)
            #expect(try await post("trips/repair")["data"]?.arrayValue?.first?["is_done"] == true)
            let findings = try await post("trips/repair?dry_run=true")["data"]?.arrayValue
            #expect(findings?.first?["kind"] == "orphan_file" && findings?.first?["is_done"] == false)
            #expect(try await http.send(.POST, "/api/v1/tables/none/compact").status == 404)
            #expect(try await http.send(.POST, "/api/v1/tables/files/compact").status == 409)
            #expect(try await http.send(.POST, "/api/v1/tables/trips/compact", #"{"x":1}"#).status == 422)
        }
    }

    @Test func queriesSayHowFreshAndAsOfWhen() async throws {
        try await Harness.run { http in
            let tables = try #require(http.test.services.tables as? TestTables)
            let body = #"{"sql":"SELECT 1","max_staleness_seconds":60,"as_of":{"trips":"12"}}"#
            #expect(try await http.send(.POST, "/api/v1/sql", body).status == 200)
            #expect(tables.options.get() == QueryOptions(maxStaleness: .seconds(60), asOf: ["trips": "12"]))
            #expect(try await http.send(.POST, "/api/v1/sql", #"{"sql":"SELECT 1"}"#).status == 200)
            #expect(tables.options.get() == QueryOptions())
            for bad in [#""max_staleness_seconds":-1"#, #""as_of":{"trips":12}"#, #""as_of":"12""#] {
                #expect(try await http.send(.POST, "/api/v1/sql", #"{"sql":"SELECT 1",\#(bad)}"#).status == 422)
            }
        }
    }
}
