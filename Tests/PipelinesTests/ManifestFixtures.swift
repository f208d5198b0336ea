// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Documents
import Foundation
import MartletCore
import Pipelines

/// The manifests in Tests/Fixtures/manifests, written by hand to exercise every form the reader accepts.
enum ManifestFixtures {
    static let directory = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("Fixtures/manifests")

    static func names() -> [String] {
        let names = try? FileManager.default.contentsOfDirectory(atPath: directory.path)
        return (names ?? []).sorted()
    }

    static func bytes(_ name: String) throws -> [UInt8] {
        Array(try Data(contentsOf: directory.appendingPathComponent(name)))
    }

    static func read(_ name: String) throws -> (name: String?, tags: [String]?, manifest: PipelineManifest) {
        let document = try DocumentParser.parse(try bytes(name), contentType: nil)
        let read = try PipelineManifestReader.read(document)
        return (read.name, read.tags, read.manifest)
    }
}
