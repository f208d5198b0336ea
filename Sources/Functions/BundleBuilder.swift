// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
package import MartletCore

/// Makes bundles of functions' folders.
///
/// A bundle is named by what is in it: building the same again finds the one there is, and a change of code alone makes a new
/// bundle on the environment there is.
package final class BundleBuilder: Sendable {
    /// What is to be built.
    package struct Request: Sendable {
        /// Tar archive of the function's folder.
        package var archive: [UInt8]
        /// Name to store the bundle under; may have parts divided by `/`.
        package var name: String
        /// Tag to store it under.
        package var tag: String
        /// Handler file; `main.py` where it is empty.
        package var handler: String
        /// Pattern of Python versions; nil for the setting.
        package var pythonVersion: String?
        /// Makes the environment anew, without pip's cache.
        package var clearCache: Bool

        /// Makes a request.
        package init(
            archive: [UInt8],
            name: String,
            tag: String = "latest",
            handler: String = "main.py",
            pythonVersion: String? = nil,
            clearCache: Bool = false
        ) {
            self.archive = archive
            self.name = name
            self.tag = tag
            self.handler = handler
            self.pythonVersion = pythonVersion
            self.clearCache = clearCache
        }
    }

    /// Where the bundles are.
    package let store: BundleStore
    let settings: FunctionSettings
    private let environments: EnvironmentStore
    private let interpreters: PythonInterpreters

    /// Makes a builder; call ``BundleStore/removeLeftovers()`` once before the first build.
    package init(_ settings: FunctionSettings) {
        self.settings = settings
        environments = EnvironmentStore(settings)
        store = BundleStore(settings, environments: environments)
        interpreters = PythonInterpreters(settings)
    }

    /// Builds a bundle, which is on disk when this returns; `line` gets what happens as it happens.
    ///
    /// - Throws: `ServiceError` that says what is wrong with the folder, the requirements or the code; nothing is left behind.
    package func build(
        _ request: Request,
        line: @escaping @Sendable (String) -> Void
    ) async throws -> BundleDescription {
        if let obstacle = settings.obstacle { throw obstacle }
        let handler = request.handler.isEmpty ? "main.py" : request.handler
        try Self.checkName(request.name, request.tag)
        let archive = request.archive
        let files = try await BlockingWork.run { try Self.files(archive, handler: handler) }
        let pattern = request.pythonVersion ?? settings.pythonVersion
        let interpreter = try await interpreters.choose(pattern)
        line("Python \(pattern) resolved to \(interpreter.version)")
        let prepared = try await BlockingWork.run {
            let plan = try EnvironmentPlan(files: files, interpreter: interpreter)
            return (plan: plan, digest: Self.digest(files, plan: plan, handler: handler))
        }
        let (plan, digest) = prepared
        if !request.clearCache, let manifest = try await ready(digest) {
            line("Nothing changed: bundle \(digest.prefix(12)) exists")
            line("Build completed")
            return description(manifest, request, cached: true, unchanged: true)
        }
        if let aptfile = files.first(where: { $0.path == "Aptfile" }) {
            try await SystemPackages.ensure(try SystemPackages.read(aptfile.content), settings: settings, line: line)
        }
        let staging = "\(store.directory)/.tmp-\(UUID().uuidString.lowercased())"
        do {
            let manifest = try await assemble(files, plan, digest, handler: handler, staging: staging, line: line)
            let cached = try await environments.ensure(plan, isFresh: request.clearCache, line: line)
            if cached { line("Environment \(plan.digest.prefix(12)) is cached") }
            try await BlockingWork.run { try self.publish(staging, manifest) }
            line("App path: \(store.path(digest))/app")
            line("Build completed")
            return description(manifest, request, cached: cached, unchanged: false)
        } catch {
            // What is left of a failed build has no use, and the next start removes it if this cannot.
            _ = try? await BlockingWork.run { try FileManager.default.removeItem(atPath: staging) }
            throw error
        }
    }

    // MARK: Steps

    private static func checkName(_ name: String, _ tag: String) throws(ServiceError) {
        let isName =
            name.utf8.count <= 255
            && name.split(separator: "/", omittingEmptySubsequences: false).allSatisfy {
                ResourceName.isValidName(String($0))
            }
        guard isName else {
            throw .invalid(
                field: "name",
                "'\(name.prefix(140))' is not a usable name",
                fix: "use letters, digits, '.', '_', '-' and '/' between parts, each starting with a letter or digit"
            )
        }
        guard ResourceName.isValidName(tag) else {
            throw .invalid(
                field: "tag",
                "'\(tag.prefix(140))' is not a usable tag",
                fix: "use letters, digits, '.', '_' or '-'"
            )
        }
    }

    private static func files(_ archive: [UInt8], handler: String) throws -> [TarArchive.File] {
        let files = try TarArchive.read(archive).filter { !FunctionFolder.isJunk($0.path) }
        guard files.contains(where: { $0.path == handler }) else {
            let modules = files.map(\.path).filter { $0.hasSuffix(".py") }
            let shown = modules.prefix(10).joined(separator: ", ")
            throw ServiceError.invalid(
                field: "handler",
                "there is no file '\(handler.prefix(200))' in the function's folder",
                fix: modules.isEmpty
                    ? "add \(handler), or name the right folder"
                    : "name the handler file with --handlers; there are: \(shown)"
            )
        }
        return files
    }

    private static func digest(_ files: [TarArchive.File], plan: EnvironmentPlan, handler: String) -> String {
        var digest = ContentDigest("martlet bundle 1")
        digest.add(plan.digest)
        digest.add(handler)
        for file in files { digest.add(file) }
        return digest.text()
    }

    private func ready(_ digest: String) async throws -> BundleStore.Manifest? {
        try await BlockingWork.run {
            // A damaged bundle is built again.
            guard let manifest = try? self.store.manifest(digest), self.environments.isReady(manifest.environmentDigest)
            else {
                return nil
            }
            self.store.touch(digest)
            return manifest
        }
    }

    private func assemble(
        _ files: [TarArchive.File],
        _ plan: EnvironmentPlan,
        _ digest: String,
        handler: String,
        staging: String,
        line: @Sendable (String) -> Void
    ) async throws -> BundleStore.Manifest {
        line("[Started] Code")
        let final = "\(store.path(digest))/app"
        try await BlockingWork.run { try PackageInstaller.unpack(files, to: "\(staging)/app") }
        let warnings = try await HandlerCheck.run(
            app: "\(staging)/app",
            final: final,
            handler: handler,
            interpreter: plan.interpreter
        )
        for warning in warnings { line("warning: \(warning)") }
        line("[Completed] Code")
        return BundleStore.Manifest(
            digest: digest,
            handler: handler,
            environmentDigest: plan.digest,
            pythonVersion: plan.interpreter.version,
            sizeBytes: files.reduce(0) { $0 + Int64($1.content.count) },
            files: files.count,
            warnings: warnings
        )
    }

    private func publish(_ staging: String, _ manifest: BundleStore.Manifest) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        try DurableFiles.write(Array(try encoder.encode(manifest)), to: "\(staging)/bundle.json")
        try DurableFiles.syncTree(staging)
        let final = store.path(manifest.digest)
        if (try? store.manifest(manifest.digest)) == manifest {
            // Another build of the same was faster, or only the environment was missing.
            try FileManager.default.removeItem(atPath: staging)
            store.touch(manifest.digest)
            return
        }
        if FileManager.default.fileExists(atPath: final) {
            let old = "\(store.directory)/.old-\(UUID().uuidString.lowercased())"
            try DurableFiles.move(final, to: old)
            try FileManager.default.removeItem(atPath: old)
        }
        try DurableFiles.move(staging, to: final)
    }

    private func description(
        _ manifest: BundleStore.Manifest,
        _ request: Request,
        cached: Bool,
        unchanged: Bool
    ) -> BundleDescription {
        BundleDescription(
            digest: manifest.digest,
            name: request.name,
            tag: request.tag,
            handler: manifest.handler,
            sizeBytes: manifest.sizeBytes,
            pythonVersion: manifest.pythonVersion,
            environmentDigest: manifest.environmentDigest,
            environmentCached: cached,
            unchanged: unchanged
        )
    }
}
