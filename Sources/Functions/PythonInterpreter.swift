// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore
import Synchronization

/// A Python that functions can run on.
struct PythonInterpreter: Sendable, Codable, Equatable {
    /// Executable outside of any virtual environment.
    var path: String
    /// For example `3.11.7`.
    var version: String
    /// Operating system, machine and implementation, as far as compiled packages depend on them.
    var platform: String

    /// Whether the version fits a pattern such as `3`, `3.12`, `3.12.*` or `3.12.1`.
    func matches(_ pattern: String) -> Bool {
        let own = version.split(separator: ".")
        for (index, part) in pattern.split(separator: ".", omittingEmptySubsequences: false).enumerated() {
            if part == "*" { return true }
            guard index < own.count, own[index] == part else { return false }
        }
        return true
    }
}

/// Finds interpreters and remembers what they said about themselves.
final class PythonInterpreters: Sendable {
    private struct Key: Hashable {
        let path: String
        let modified: Date
    }

    private let settings: FunctionSettings
    private let known = Mutex<[Key: PythonInterpreter?]>([:])

    init(_ settings: FunctionSettings) {
        self.settings = settings
    }

    /// The first interpreter that fits a pattern: the engine's own, then `python3`, then `python3.N` from the newest.
    ///
    /// - Throws: `.failedPrecondition` listing what exists.
    func choose(_ pattern: String) async throws -> PythonInterpreter {
        let isPattern =
            !pattern.isEmpty && pattern.utf8.allSatisfy { (0x30...0x39).contains($0) || $0 == 0x2E || $0 == 0x2A }
        guard isPattern else {
            throw ServiceError.invalid(
                field: "python_version",
                "'\(pattern)' is no Python version",
                fix: "write 3.12, 3.12.* or 3.12.1"
            )
        }
        var found: [PythonInterpreter] = []
        for path in [settings.python] + candidates() {
            guard let interpreter = try await probe(path) else { continue }
            if interpreter.matches(pattern) { return interpreter }
            if !found.contains(where: { $0.version == interpreter.version }) { found.append(interpreter) }
        }
        let list = found.map { "\($0.version) (\($0.path))" }.joined(separator: ", ")
        throw ServiceError(
            .failedPrecondition,
            "no Python fits version '\(pattern)'; there \(found.isEmpty ? "is none" : "are: \(list)")",
            fix: found.isEmpty
                ? "install Python 3.11 or newer" : "install one that fits, or build with --version \(found[0].version)"
        )
    }

    private func candidates() -> [String] {
        let path = ProcessInfo.processInfo.environment["PATH"] ?? ""
        let directories = settings.searchPaths ?? path.split(separator: ":").map(String.init)
        var plain: [String] = []
        var numbered: [(minor: Int, path: String)] = []
        for directory in directories {
            // A directory of PATH that is missing or unreadable holds no interpreter.
            for name in (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? [] {
                if name == "python3" { plain.append("\(directory)/\(name)") }
                guard name.hasPrefix("python3."), let minor = Int(name.dropFirst(8)) else { continue }
                numbered.append((minor, "\(directory)/\(name)"))
            }
        }
        return plain + numbered.sorted { $0.minor > $1.minor }.map(\.path)
    }

    private func probe(_ path: String) async throws -> PythonInterpreter? {
        guard FileManager.default.isExecutableFile(atPath: path) else { return nil }
        let attributes = try? FileManager.default.attributesOfItem(
            atPath: URL(fileURLWithPath: path).resolvingSymlinksInPath().path
        )
        let key = Key(path: path, modified: attributes?[.modificationDate] as? Date ?? .distantPast)
        if let answer = known.withLock({ $0[key] }) { return answer }
        let outcome = try await CommandRunner.run(
            path,
            ["-I", "-S", "-c", Self.question],
            environment: PythonEnvironment.variables(),
            timeout: .seconds(20)
        )
        let parts = outcome.lines.last?.split(separator: "|", omittingEmptySubsequences: false).map(String.init) ?? []
        let isAnswer = outcome.code == 0 && parts.count == 3
        let answer = isAnswer ? PythonInterpreter(path: parts[0], version: parts[1], platform: parts[2]) : nil
        known.withLock { $0[key] = .some(answer) }
        return answer
    }

    private static let question = """
        import sys, sysconfig
        base = getattr(sys, "_base_executable", None) or sys.executable
        print(base, "%d.%d.%d" % sys.version_info[:3], sysconfig.get_platform() + " " + str(sys.implementation.cache_tag), sep="|")
        """
}

/// The variables Python programs are started with.
enum PythonEnvironment {
    private static let unwanted: Set<String> = [
        "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONPLATLIBDIR", "PYTHONPYCACHEPREFIX",
        "PYTHONDONTWRITEBYTECODE",
        "VIRTUAL_ENV", "__PYVENV_LAUNCHER__", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER",
        "PIP_REQUIRE_VIRTUALENV",
        "PIP_PYTHON",
    ]

    /// The engine's variables without those that would change what Python imports or where pip installs.
    static func variables() -> [String: String] {
        var variables = ProcessInfo.processInfo.environment.filter { !unwanted.contains($0.key) }
        variables["PYTHONUNBUFFERED"] = "1"
        variables["PYTHONNOUSERSITE"] = "1"
        variables["PYTHONIOENCODING"] = "utf-8"
        variables["PIP_NO_COLOR"] = "1"
        variables["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
        return variables
    }
}
