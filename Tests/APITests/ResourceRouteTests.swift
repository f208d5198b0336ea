// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import API
import Catalog
import Foundation
import MartletCore
import NIOHTTP1
import Testing

@Suite(.timeLimit(.minutes(5)))
struct ResourceRouteTests {
    @Test func aResourceLivesItsLife() async throws {
        try await Harness.run { http in
            let made = try await http.send(.POST, "/api/v1/views", #"{"name":"frames","path":"/srv","tags":["a"]}"#)
            #expect(made.status == 201)
            #expect(made.headers["location"] == ["/api/v1/views/frames"])
            #expect(made.json["vrn"] == "vast:dataengine:views:frames")
            #expect(made.json["owner"]?["name"] == "local")
            let guid = try #require(made.json["guid"]?.stringValue)
            for id in ["frames", guid, "vast:dataengine:views:frames", "vast%3Adataengine%3Aview%3Aframes"] {
                let found = try await http.send(.GET, "/api/v1/views/\(id)")
                #expect(found.status == 200 && found.body == made.body)
            }
            let changed = try await http.send(
                .PUT,
                "/api/v1/views/frames",
                "description: bäh\n",
                type: "application/yaml"
            )
            #expect(changed.status == 200)
            #expect(changed.json["description"] == "bäh")
            #expect(try await http.send(.DELETE, "/api/v1/views/frames").status == 204)
            let gone = try await http.send(.GET, "/api/v1/views/frames")
            #expect(gone.status == 404)
            #expect(gone.headers["content-type"] == ["application/problem+json"])
            #expect(gone.json["code"] == "notFound" && gone.json["fix"] != nil)
        }
    }

    @Test func aDryRunMakesNothing() async throws {
        try await Harness.run { http in
            let made = try await http.send(.POST, "/api/v1/views?dry_run=true", #"{"name":"frames","path":"/srv"}"#)
            #expect(made.status == 200)
            #expect(made.json["name"] == "frames")
            #expect(try await http.send(.GET, "/api/v1/views/frames").status == 404)
        }
    }

    @Test func listsInPages() async throws {
        try await Harness.run { http in
            for index in 0..<5 {
                _ = try await http.test.catalog.views.create(
                    name: "v\(index)",
                    owner: .init(name: "x"),
                    spec: ViewSpec(path: "/")
                )
            }
            var names: [String] = []
            var cursor: String?
            repeat {
                let query = cursor.map { "&cursor=\($0)" } ?? ""
                let page = try await http.send(.GET, "/api/v1/views?limit=2\(query)").json
                names += (page["data"]?.arrayValue ?? []).compactMap { $0["name"]?.stringValue }
                cursor = page["pagination"]?["next_cursor"]?.stringValue
            } while cursor != nil
            #expect(names == ["v0", "v1", "v2", "v3", "v4"])
            #expect(try await http.send(.GET, "/api/v1/views?cursor=nonsense").status == 422)
        }
    }

    @Test func filtersTriggersByTypeOverPages() async throws {
        try await Harness.run { http in
            for index in 0..<9 {
                let spec = TriggerSpec(type: index.isMultiple(of: 3) ? .schedule : .element, topicName: "default")
                _ = try await http.test.catalog.triggers.create(name: "t\(index)", owner: .init(name: "x"), spec: spec)
            }
            func names(_ query: String) async throws -> ([String], String?) {
                let page = try await http.send(.GET, "/api/v1/triggers?\(query)").json
                return (
                    (page["data"]?.arrayValue ?? []).compactMap { $0["name"]?.stringValue },
                    page["pagination"]?["next_cursor"]?.stringValue
                )
            }
            let (first, cursor) = try await names("type=Schedule&limit=2")
            #expect(first == ["t0", "t3"])
            let (second, end) = try await names("type=Schedule&limit=2&cursor=\(try #require(cursor))")
            #expect(second == ["t6"] && end == nil)
        }
    }

    @Test func refusesToDeleteWhatIsInUse() async throws {
        try await Harness.run { http in
            _ = try await http.send(.POST, "/api/v1/triggers", #"{"name":"t","type":"Schedule"}"#)
            let refused = try await http.send(.DELETE, "/api/v1/topics/default")
            #expect(refused.status == 409)
            #expect(refused.json["code"] == "inUse")
            #expect(refused.json["errors"]?.arrayValue?.first?["field"] == "triggers/t")
        }
    }

    @Test func neverShowsSecretValues() async throws {
        try await Harness.run { http in
            let made = try await http.send(.POST, "/api/v1/secrets", #"{"db":{"password":"hunter-2-hidden"}}"#)
            #expect(made.status == 201)
            for path in ["/api/v1/secrets", "/api/v1/secrets/db"] {
                let shown = try await http.send(.GET, path)
                #expect(shown.status == 200 && !shown.text.contains("hunter") && shown.text.contains("password"))
            }
            let bad = try await http.send(.POST, "/api/v1/secrets", #"{"x":{"password":["hunter-2-hidden"]}}"#)
            #expect(bad.status == 422 && !bad.text.contains("hunter"))
        }
    }

    @Test func showsFunctionsPipelinesAndTelemetry() async throws {
        try await Harness.run { http in
            _ = try await http.send(.POST, "/api/v1/functions", #"{"name":"f"}"#)
            _ = try await http.send(.POST, "/api/v1/pipelines", "name: p\nmanifest: {}\n", type: "application/yaml")
            func get(_ path: String) async throws -> JSONValue {
                let answer = try await http.send(.GET, "/api/v1\(path)")
                #expect(answer.status == 200, "\(path): \(answer.text)")
                return answer.json
            }
            #expect(try await get("/functions/f/revisions")["data"]?.arrayValue?.count == 1)
            #expect(try await get("/functions/f/revisions/default")["revision_number"] == 1)
            #expect(try await get("/pipelines/p/manifest")["manifest"]?["links"]?.arrayValue?.first?["retries"] == 3)
            #expect(try await get("/pipelines/p/deployments")["data"]?.arrayValue?.first?["workers_ready"] == 0)
            #expect(try await get("/topics/default/partitions")["data"]?.arrayValue?.count == 2)
            #expect(try await get("/tables/files")["columns"]?.arrayValue?.first?["is_key"] == true)
            let logs = try await get(
                "/logs?since=2026-04-08T15:41:29%2B02:00&severity=WARN&contains=a%20b&order_by=desc&limit=1"
            )
            #expect(logs["data"]?.arrayValue?.first?["time"] == "2026-04-08T13:41:29.000000Z")
            #expect(logs["data"]?.arrayValue?.first?["attributes"]?["aKey_b"] == "v")
            #expect(try await get("/traces?status=ERROR")["data"]?.arrayValue?.first?["status"] == "ERROR")
            #expect(try await get("/traces/4bf92f3577b34da6a3ce929d0e0e4736")["spans"]?.arrayValue?.count == 1)
            #expect(
                try await get("/metrics/names?search=x&metric_type=Gauge")["data"]?.arrayValue?.first?["type"]
                    == "Gauge"
            )
            let values = try await get(
                "/metrics/query?name=a&name=b&aggregation=p99&group_by=topic&group_by=x&top_k=3&bottom_k=4&max_points=7"
            )
            #expect(values["series"]?.arrayValue?.map { $0["name"]?.stringValue } == ["a", "b"])
            #expect(values["series"]?.arrayValue?.first?["aggregation"] == "p99")
            #expect(values["series"]?.arrayValue?.first?["group"] == ["topic": "g", "x": "g"])
            #expect(values["groups_left_out"] == 70_403)
            #expect(try await http.send(.GET, "/api/v1/metrics/query").status == 400)
            #expect(try await http.send(.GET, "/api/v1/metrics/query?name=a&aggregation=mean").status == 400)
            #expect(try await get("/engine")["damage"]?.arrayValue?.count == 1)
            #expect(try await get("/triggers").objectValue != nil)
            #expect(try await http.send(.GET, "/readyz").status == 200)
        }
    }

    @Test func runsVerbs() async throws {
        try await Harness.run { http in
            _ = try await http.send(.POST, "/api/v1/pipelines", #"{"name":"p"}"#)
            let deployed = try await http.send(.POST, "/api/v1/pipelines/p/deploy", #"{"revision":4}"#)
            #expect(deployed.json["status"] == "Ready" && deployed.json["deployed_revision_number"] == 4)
            #expect(try await http.send(.POST, "/api/v1/pipelines/p/pause").json["status"] == "Paused")
            #expect(try await http.send(.POST, "/api/v1/pipelines/p/replay", #"{"from":17}"#).json["records"] == 17)
            #expect(try await http.send(.POST, "/api/v1/pipelines/p/replay", #"{"from":"2h"}"#).json["records"] == 5)
            #expect(try await http.send(.POST, "/api/v1/pipelines/p/replay", #"{"from":-1}"#).status == 422)
            #expect(try await http.send(.POST, "/api/v1/pipelines/p/deploy", #"{"revison":4}"#).status == 422)
            #expect(
                try await http.send(.POST, "/api/v1/dead-letters/redrive", #"{"ids":["0-1","0-2"]}"#).json["redriven"]
                    == 2
            )
            #expect(try await http.send(.POST, "/api/v1/dead-letters/redrive", #"{}"#).status == 422)
            let letter = try await http.send(.GET, "/api/v1/dead-letters/0-17")
            #expect(letter.text.contains(#""data":{"n":1.50}"#))
            #expect(letter.json["event"]?["elementpath"] == "a/b")
            #expect(!(try await http.send(.GET, "/api/v1/dead-letters")).text.contains("1.50"))
        }
    }

    @Test func showsAndChangesElements() async throws {
        try await Harness.run { http in
            _ = try await http.send(.POST, "/api/v1/views", #"{"name":"v","path":"/"}"#)
            let list = try await http.send(.GET, "/api/v1/views/v/elements?prefix=a%20b/&cursor=k%2B")
            #expect(list.json["data"]?.arrayValue?.first?["key"] == "a b/é.exr")
            #expect(list.json["pagination"]?["next_cursor"] == "k+")
            let tagged = try await http.send(.PUT, "/api/v1/views/v/tags", #"{"key":"k","tags":{"aB_c":"1"}}"#)
            #expect(tagged.json["tags"]?["aB_c"] == "1")
            let untagged = try await http.send(.DELETE, "/api/v1/views/v/tags?key=k&name=a&name=b")
            #expect(untagged.json["tags"]?.objectValue?.count == 2)
        }
    }
}
