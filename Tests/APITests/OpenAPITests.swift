// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import API
import Foundation
import Logging
import MartletCore
import NIOHTTP1
import Testing

@Suite(.timeLimit(.minutes(5)))
struct OpenAPITests {
    private func server() async throws -> APIServer {
        try APIServer(
            configuration: TestServices.configuration(),
            services: try await TestServices().services,
            logger: Logger(label: "test")
        )
    }

    @Test func describesExactlyWhatTheRouterServes() async throws {
        let server = try await server()
        let document = try JSONValue(parsing: server.openAPIDocument)
        let described = (document["paths"]?.objectValue?.members ?? []).flatMap { path in
            (path.value.objectValue?.keys ?? []).map { "\($0.uppercased()) \(path.key)" }
        }
        #expect(Set(described) == Set(server.operations.map { "\($0.method) \($0.path)" }))
        #expect(described.count == server.operations.count)
        #expect(described.count > 55)
    }

    /// Every path of the contract, so that none is lost unseen.
    @Test func servesTheWholeContract() async throws {
        let served = Set(try await server().operations.map { "\($0.method) \($0.path.replacing("/api/v1", with: ""))" })
        var wanted: Set<String> = [
            "GET /views/{id}/elements", "PUT /views/{id}/tags", "DELETE /views/{id}/tags",
            "GET /triggers/{id}/fire-times",
            "POST /bundles", "GET /bundles", "GET /functions/{id}/revisions", "GET /functions/{id}/revisions/{rev}",
            "POST /functions/{id}/revisions/{rev}/publish", "GET /pipelines/{id}/manifest",
            "GET /pipelines/{id}/revisions",
            "POST /pipelines/{id}/deploy", "POST /pipelines/{id}/undeploy", "POST /pipelines/{id}/pause",
            "POST /pipelines/{id}/resume", "POST /pipelines/{id}/replay", "GET /pipelines/{id}/deployments",
            "GET /topics/{id}/partitions", "POST /topics/{id}/events", "GET /topics/{id}/records",
            "POST /topics/{id}/records", "DELETE /topics/{id}/records", "GET /topics/{id}/settings",
            "GET /dead-letters", "GET /dead-letters/{id}",
            "POST /dead-letters/redrive", "GET /tables", "GET /tables/{name}", "DELETE /tables/{name}",
            "GET /tables/{name}/export", "POST /sql", "POST /tables", "PUT /tables/{name}",
            "GET /tables/{name}/history",
            "POST /tables/{name}/commit", "POST /tables/{name}/compact", "POST /tables/{name}/replay",
            "POST /tables/{name}/repair", "POST /statements",
            "GET /statements", "GET /statements/{id}", "DELETE /statements/{id}", "GET /statements/{id}/rows",
            "GET /logs", "GET /traces", "GET /traces/{trace_id}",
            "GET /engine",
            "GET /healthz", "GET /readyz", "GET /openapi.json", "POST /v1/traces", "POST /v1/logs", "POST /v1/metrics",
            "GET /groups", "GET /groups/{name}", "POST /groups/{name}/reset", "DELETE /groups/{name}",
            "GET /metrics/names", "GET /metrics/query", "GET /metrics",
            "GET /kafka/users", "POST /kafka/users", "PUT /kafka/users/{name}", "DELETE /kafka/users/{name}",
            "GET /kafka/acls", "POST /kafka/acls", "DELETE /kafka/acls/{id}",
        ]
        for kind in ["views", "triggers", "functions", "pipelines", "topics", "secrets"] {
            for operation in [
                "GET /\(kind)", "POST /\(kind)", "GET /\(kind)/{id}", "PUT /\(kind)/{id}", "DELETE /\(kind)/{id}",
            ] {
                wanted.insert(operation)
            }
        }
        #expect(served == wanted)
    }

    @Test func everyReferenceLeadsSomewhereAndIDsAreUnique() async throws {
        let document = try JSONValue(parsing: try await server().openAPIDocument)
        let schemas = Set(document["components"]?["schemas"]?.objectValue?.keys ?? [])
        var references: Set<String> = []
        func walk(_ value: JSONValue) {
            switch value {
            case .object(let object):
                for member in object.members {
                    if member.key == "$ref", let text = member.value.stringValue {
                        references.insert(text.replacing("#/components/schemas/", with: ""))
                    }
                    walk(member.value)
                }
            case .array(let items): items.forEach(walk)
            default: break
            }
        }
        walk(document)
        #expect(references.isSubset(of: schemas))
        // Readers of groups are served where there is a log, which this server has not.
        let elsewhere: Set = ["GroupReader", "GroupReadRequest", "GroupRecords", "NewGroupReader"]
        let unused = schemas.subtracting(references).subtracting(elsewhere)
        #expect(unused.isEmpty, "unused: \(unused)")
        let ids = (document["paths"]?.objectValue?.members ?? []).flatMap { path in
            (path.value.objectValue?.members ?? []).compactMap { $0.value["operationId"]?.stringValue }
        }
        #expect(Set(ids).count == ids.count)
        #expect(ids.allSatisfy { $0.utf8.allSatisfy { (0x61...0x7A).contains($0) || $0 == 0x5F } })
    }

    @Test func isServedAsItIs() async throws {
        try await Harness.run { http in
            let answer = try await http.send(.GET, "/openapi.json")
            #expect(answer.json["openapi"] == "3.1.0")
        }
    }
}
