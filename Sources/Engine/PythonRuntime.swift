// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore

/// The Python environment and SDK the engine works with.
struct PythonRuntime: Sendable {
    /// Interpreter whose pip builds function environments; empty where there is none.
    let python: String
    /// Folders put behind a function's own packages: the SDK, then what it imports.
    let paths: [String]
    /// Where the DuckDB wheel may be.
    let libraryCandidates: [String]
    /// What functions lack here, naming what was looked for; nil where they can run.
    let obstacle: ServiceError?

    /// Finds them: settings first, then beside the program, then the working directory.
    init(environment: String?, sdk: String?) {
        let roots = Self.roots()
        let environments =
            environment.map { [$0] }
            ?? (roots.map { $0 + "/.venv" } + [ProcessInfo.processInfo.environment["VIRTUAL_ENV"]].compactMap(\.self))
        guard
            let found = environments.first(where: { FileManager.default.isExecutableFile(atPath: $0 + "/bin/python") })
        else {
            (python, paths, libraryCandidates) = ("", [], [])
            obstacle = ServiceError(
                .failedPrecondition,
                "functions cannot run: no Python environment was found; looked for bin/python in \(Self.list(environments))",
                fix:
                    "run 'make setup', or set python.environment (MARTLET_PYTHON_ENVIRONMENT) to a virtual environment made from requirements.txt, and start the engine again"
            )
            return
        }
        python = found + "/bin/python"
        libraryCandidates = [found]
        let packages = Self.sitePackages(found)
        let kits = sdk.map { [$0] } ?? (roots.map { $0 + "/sdk/python/src" } + packages)
        guard let kit = kits.first(where: { FileManager.default.fileExists(atPath: $0 + "/martlet/worker.py") }) else {
            paths = packages
            obstacle = ServiceError(
                .failedPrecondition,
                "functions cannot run: the Python package 'martlet' was not found in \(Self.list(kits))",
                fix: "set python.sdk (MARTLET_PYTHON_SDK) to the folder that holds it, and start the engine again"
            )
            return
        }
        paths = [kit] + packages.filter { $0 != kit }
        obstacle = nil
    }

    private static func list(_ paths: [String]) -> String {
        var seen: Set<String> = []
        return paths.filter { seen.insert($0).inserted }.joined(separator: ", ")
    }

    private static func sitePackages(_ environment: String) -> [String] {
        let lib = environment + "/lib"
        let versions = (try? FileManager.default.contentsOfDirectory(atPath: lib)) ?? []
        return versions.filter { $0.hasPrefix("python3") }.sorted().map { "\(lib)/\($0)/site-packages" }
    }

    /// The folders above the program, nearest first, then the working directory.
    private static func roots() -> [String] {
        let program = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
        var all = [String]()
        var folder = URL(fileURLWithPath: program).deletingLastPathComponent()
        for _ in 0..<5 where folder.path != "/" {
            all.append(folder.path)
            folder = folder.deletingLastPathComponent()
        }
        return all + [FileManager.default.currentDirectoryPath]
    }
}
