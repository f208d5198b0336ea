// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Functions
import MartletCore
import Synchronization

/// A temporary place to build functions in, with the repository's own Python.
final class FunctionBench: Sendable {
    let directory: String
    let settings: FunctionSettings
    private let printed = Mutex<[String]>([])

    init(
        runtimePaths: [String] = [],
        pythonVersion: String = "3.*",
        searchPaths: [String]? = nil,
        python: String = FunctionBench.python
    ) throws {
        directory = NSTemporaryDirectory() + "martlet-functions-\(UUID().uuidString.lowercased())"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        settings = FunctionSettings(
            root: directory + "/functions",
            python: python,
            runtimePaths: runtimePaths,
            pythonVersion: pythonVersion,
            searchPaths: searchPaths,
            installTimeout: .seconds(300)
        )
    }

    deinit {
        // A temporary directory that cannot be removed is the system's to clean.
        try? FileManager.default.removeItem(atPath: directory)
    }

    /// The Python whose pip installs requirements: MARTLET_PYTHON, else the repository's `.venv`, else the first python3.
    static let python: String = {
        if let named = ProcessInfo.processInfo.environment["MARTLET_PYTHON"] { return named }
        let own = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent(".venv/bin/python").path
        return FileManager.default.isExecutableFile(atPath: own) ? own : "/usr/bin/python3"
    }()

    static let code = "def init(ctx):\n    pass\n\n\ndef handler(ctx, event):\n    return 1\n"

    static func archive(_ files: [String: String]) throws -> [UInt8] {
        try TarArchive.write(files.map { TarArchive.File(path: $0.key, content: $0.value.utf8) })
    }

    func build(
        _ files: [String: String],
        with builder: BundleBuilder,
        version: String? = nil,
        clearCache: Bool = false
    ) async throws -> Built {
        let request = BundleBuilder.Request(
            archive: try Self.archive(files),
            name: "f",
            pythonVersion: version,
            clearCache: clearCache
        )
        let start = ContinuousClock.now
        let bundle = try await builder.build(request) { line in self.printed.withLock { $0.append(line) } }
        return Built(
            digest: bundle.digest,
            environment: bundle.environmentDigest,
            cached: bundle.environmentCached,
            unchanged: bundle.unchanged,
            python: bundle.pythonVersion,
            took: start.duration(to: .now)
        )
    }

    /// What a build gave and how long it took.
    struct Built {
        let digest: String
        let environment: String
        let cached: Bool
        let unchanged: Bool
        let python: String
        let took: Duration
    }

    var lines: [String] { printed.withLock { $0 } }

    /// What is in the directories of bundles and environments.
    func entries(_ kind: String) -> [String] {
        (try? FileManager.default.contentsOfDirectory(atPath: "\(settings.root)/\(kind)"))?.sorted() ?? []
    }

    /// Runs code with a bundle's Python as a worker would be run, and returns what it prints.
    func run(_ launch: WorkerLaunch, _ code: String) throws -> String {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: launch.executable)
        process.arguments = ["-c", code]
        process.environment = ProcessInfo.processInfo.environment.merging(launch.environment) { $1 }
            .filter { !launch.removedVariables.contains($0.key) }
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        try process.run()
        let data = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return String(decoding: data, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
    }
}
