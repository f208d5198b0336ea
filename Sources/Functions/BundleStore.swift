// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Foundation
import MartletCore

/// Bundles on disk: `bundles/<digest>/app` and `bundles/<digest>/bundle.json` (docs/formats/bundle.md).
package struct BundleStore: Sendable {
    /// What `bundle.json` says.
    struct Manifest: Codable, Equatable {
        static let formatNow = 1

        var format = Manifest.formatNow
        var digest: String
        var handler: String
        var environmentDigest: String
        var pythonVersion: String
        var sizeBytes: Int64
        var files: Int
        var warnings: [String]
    }

    let directory: String
    let environments: EnvironmentStore

    /// Finds the bundles of a builder's settings.
    package init(_ settings: FunctionSettings) {
        self.init(settings, environments: EnvironmentStore(settings))
    }

    init(_ settings: FunctionSettings, environments: EnvironmentStore) {
        directory = "\(settings.root)/bundles"
        self.environments = environments
    }

    /// The directory of a bundle, whether it exists or not.
    package func path(_ digest: String) -> String { "\(directory)/\(digest)" }

    /// How to start a worker of a bundle; blocks for a moment.
    ///
    /// - Throws: `.failedPrecondition` where the bundle or its environment is gone or damaged.
    package func launch(_ digest: String) throws -> WorkerLaunch {
        guard let manifest = try manifest(digest) else {
            throw ServiceError(
                .failedPrecondition,
                "there is no bundle \(digest.prefix(12)) in \(directory)",
                fix: "build the function again: martlet functions build NAME"
            )
        }
        guard environments.isReady(manifest.environmentDigest) else {
            throw ServiceError(
                .failedPrecondition,
                "the environment \(manifest.environmentDigest.prefix(12)) of bundle \(digest.prefix(12)) is gone or its Python was removed",
                fix: "build the function again: martlet functions build NAME"
            )
        }
        let environment = environments.path(manifest.environmentDigest)
        let app = "\(path(digest))/app"
        return WorkerLaunch(
            executable: "\(environment)/bin/python",
            arguments: ["-m", "martlet.worker"],
            environment: [
                "MARTLET_APP_PATH": app, "MARTLET_HANDLER": manifest.handler, "VIRTUAL_ENV": environment,
                "PYTHONUNBUFFERED": "1", "PYTHONNOUSERSITE": "1",
            ],
            removedVariables: [
                "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONPYCACHEPREFIX", "__PYVENV_LAUNCHER__",
            ],
            appPath: app,
            handler: manifest.handler
        )
    }

    /// What is known of a bundle, or nil where there is none; blocks.
    ///
    /// - Throws: `.internal` where `bundle.json` cannot be read.
    func manifest(_ digest: String) throws -> Manifest? {
        guard Self.isDigest(digest), let bytes = try DurableFiles.read("\(path(digest))/bundle.json") else {
            return nil
        }
        guard let manifest = try? JSONDecoder().decode(Manifest.self, from: Data(bytes)),
            manifest.format == Manifest.formatNow,
            manifest.digest == digest
        else {
            throw ServiceError(
                .internal,
                "\(path(digest))/bundle.json is damaged or of an unknown version",
                fix: "remove that directory and build the function again"
            )
        }
        return manifest
    }

    /// Marks a bundle as just used, so that garbage collection spares it.
    func touch(_ digest: String) {
        // Where the time cannot be set the bundle is only collected earlier than it might be.
        try? FileManager.default.setAttributes([.modificationDate: Date()], ofItemAtPath: path(digest))
    }

    /// Removes bundles that nothing refers to and environments that no bundle needs; blocks.
    ///
    /// `keep` are the digests that revisions refer to. What was made or built again after `cutoff` stays, because its revision may
    /// be about to be stored.
    /// - Returns: The digests of the bundles removed.
    package func collectGarbage(keep: Set<String>, before cutoff: Date) throws -> [String] {
        var removed: [String] = []
        var needed: Set<String> = []
        for name in try names(directory) where Self.isDigest(name) {
            let isOld = try modified("\(directory)/\(name)") < cutoff
            if !keep.contains(name), isOld {
                try remove("\(directory)/\(name)")
                removed.append(name)
            } else if let manifest = try? manifest(name) {
                // A damaged bundle that is kept needs no environment: it cannot start.
                needed.insert(manifest.environmentDigest)
            }
        }
        for name in try names(environments.directory) where Self.isDigest(name) && !needed.contains(name) {
            if try modified(environments.path(name)) < cutoff { try remove(environments.path(name)) }
        }
        return removed.sorted()
    }

    /// Removes what crashed builds left; blocks.
    package func removeLeftovers() throws {
        try environments.removeLeftovers()
        try DurableFiles.makeDirectory(directory)
        for name in try names(directory) where name.hasPrefix(".") {
            try FileManager.default.removeItem(atPath: "\(directory)/\(name)")
        }
    }

    /// A directory first gets a name that means nothing, so that a crash leaves no half of it.
    private func remove(_ path: String) throws {
        let parent = (path as NSString).deletingLastPathComponent
        let trash = "\(parent)/.old-\(UUID().uuidString.lowercased())"
        try DurableFiles.move(path, to: trash)
        try FileManager.default.removeItem(atPath: trash)
    }

    private func names(_ directory: String) throws -> [String] {
        guard FileManager.default.fileExists(atPath: directory) else { return [] }
        return try FileManager.default.contentsOfDirectory(atPath: directory)
    }

    private func modified(_ path: String) throws -> Date {
        try FileManager.default.attributesOfItem(atPath: path)[.modificationDate] as? Date ?? .distantPast
    }

    private static func isDigest(_ name: String) -> Bool {
        name.utf8.count == 64 && name.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
    }
}
