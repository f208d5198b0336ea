// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import Foundation
import MartletCore

/// A directory of one test with a catalog in it, removed when the fixture goes.
final class CatalogFixture: Sendable {
    let directory: String
    let catalog: Catalog

    init() throws {
        directory =
            FileManager.default.temporaryDirectory
            .appendingPathComponent("martlet-catalog-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        catalog = try Catalog.open(path: directory + "/catalog.sqlite")
    }

    deinit {
        try? catalog.close()  // A test may have closed it.
        try? FileManager.default.removeItem(atPath: directory)  // Only a leftover in the temporary folder.
    }

    var path: String { directory + "/catalog.sqlite" }

    static let owner = ResourceMetadata.Owner(name: "ada")

    @discardableResult
    func topic(_ name: String) async throws -> Resource<TopicSpec> {
        try await catalog.topics.create(name: name, owner: Self.owner, spec: TopicSpec(partitions: 4))
    }

    @discardableResult
    func view(_ name: String) async throws -> Resource<ViewSpec> {
        try await catalog.views.create(name: name, owner: Self.owner, spec: ViewSpec(path: "/data/\(name)"))
    }

    static func trigger(view: String, topic: String) -> TriggerSpec {
        TriggerSpec(type: .element, sourceBucketName: view, events: ["ObjectCreated:*"], topicName: topic)
    }
}

/// The service error `body` throws, or nil.
func serviceError(_ body: () async throws -> Void) async throws -> ServiceError? {
    do {
        try await body()
        return nil
    } catch let error as ServiceError {
        return error
    }
}
