// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore

/// Installs a plan's requirements and local libraries into a new environment with the engine's pip.
struct PackageInstaller {
    let settings: FunctionSettings
    let plan: EnvironmentPlan
    let environment: String
    let isFresh: Bool

    func install(line: @escaping @Sendable (String) -> Void) async throws {
        guard !plan.isEmpty else { return }
        let staging = "\(environment)/.build"
        let plan = plan
        try await BlockingWork.run {
            try Self.unpack(plan.files, to: "\(staging)/app")
            for (index, library) in plan.libraries.enumerated() {
                try Self.unpack(library.files, to: "\(staging)/library\(index)")
            }
        }
        if plan.hasRequirements {
            var arguments = ["-r", "requirements.txt"]
            if plan.hasConstraints { arguments += ["-c", "constraints.txt"] }
            try await pip(arguments, directory: "\(staging)/app", field: "requirements.txt", line: line)
        }
        for (index, library) in plan.libraries.enumerated() {
            line("Installing \(library.name)")
            let directory = "\(staging)/library\(index)"
            let name = library.files[0].path.split(separator: "/")[0]
            if library.isProject {
                try await pip(["./\(name)"], directory: directory, field: "customDeps", line: line)
            } else {
                let target = "\(EnvironmentStore.sitePackages(environment, plan.interpreter))/\(name)"
                try await BlockingWork.run {
                    try FileManager.default.copyItem(atPath: "\(directory)/\(name)", toPath: target)
                }
                // Modules that do not compile are found when they are imported, as those of installed packages are.
                _ = try await CommandRunner.run(
                    "\(environment)/bin/python",
                    ["-I", "-m", "compileall", "-q", target],
                    environment: PythonEnvironment.variables(),
                    timeout: .seconds(300)
                )
            }
        }
        try await BlockingWork.run { try FileManager.default.removeItem(atPath: staging) }
    }

    static func unpack(_ files: [TarArchive.File], to directory: String) throws {
        var made: Set<String> = []
        for file in files {
            let path = "\(directory)/\(file.path)"
            let parent = (path as NSString).deletingLastPathComponent
            if made.insert(parent).inserted { try DurableFiles.makeDirectory(parent) }
            try DurableFiles.write(file.content, to: path, mode: file.isExecutable ? 0o755 : 0o644, syncs: false)
        }
    }

    private func pip(
        _ arguments: [String],
        directory: String,
        field: String,
        line: @escaping @Sendable (String) -> Void
    ) async throws {
        var all = [
            "-m", "pip", "--python", "\(environment)/bin/python", "install", "--no-input", "--progress-bar", "off",
        ]
        all += ["--no-warn-script-location", "--root-user-action", "ignore"]
        if isFresh { all.append("--no-cache-dir") }
        let outcome = try await CommandRunner.run(
            settings.python,
            all + arguments,
            environment: PythonEnvironment.variables(),
            directory: directory,
            timeout: settings.installTimeout,
            line: line
        )
        guard outcome.code == 0 else { throw failure(outcome, field: field) }
    }

    private func failure(_ outcome: CommandRunner.Outcome, field: String) -> ServiceError {
        let lines = outcome.lines.map { $0.trimmingCharacters(in: .whitespaces) }
        let text = lines.joined(separator: "\n")
        let errors = lines.filter { $0.hasPrefix("ERROR:") }.map {
            $0.dropFirst(6).trimmingCharacters(in: .whitespaces)
        }
        let reason = errors.isEmpty ? (lines.last ?? "no output") : errors.prefix(4).joined(separator: "; ")
        if text.contains("No module named pip") {
            return ServiceError(
                .failedPrecondition,
                "\(settings.python) has no pip",
                fix: "install pip 23.1 or newer there: python -m ensurepip --upgrade",
                detail: text
            )
        }
        if text.contains("No space left on device") || text.contains("Disk quota exceeded") {
            return ServiceError(
                .storageFull,
                "the disk is full: \(reason)",
                fix: "make room in the data directory, the temporary directory and pip's cache, and build again",
                detail: text
            )
        }
        let network = [
            "Temporary failure in name resolution", "Failed to establish a new connection", "Connection refused",
            "ProxyError",
        ]
        if network.contains(where: text.contains) {
            return ServiceError(
                .unavailable,
                "the package index cannot be reached: \(reason)",
                fix: "check the network, or point pip to an index that can be reached (PIP_INDEX_URL, PIP_FIND_LINKS)",
                detail: text
            )
        }
        let requirement = culprit(in: errors.isEmpty ? [reason] : errors)
        let place = requirement.map { "\($0.file) line \($0.line) (\($0.text)): " } ?? "\(field): "
        return ServiceError(
            .invalid,
            "\(place)\(reason)",
            fix: "correct the requirement; pip's whole output is in the detail",
            fields: [.init(field: requirement?.file ?? field, message: reason, line: requirement?.line)],
            detail: text
        )
    }

    /// The requirement that pip's error lines name first.
    private func culprit(in errors: [String]) -> EnvironmentPlan.Requirement? {
        for error in errors {
            let error = Self.canonical(error)
            if let exact = plan.requirements.first(where: { error.contains(Self.canonical($0.text)) }) { return exact }
            let named = plan.requirements.first { requirement in
                let name = requirement.text.prefix { $0.isLetter || $0.isNumber || "-_.".contains($0) }
                return !name.isEmpty && error.contains(" \(Self.canonical(String(name)))")
            }
            if let named { return named }
        }
        return nil
    }

    private static func canonical(_ text: String) -> String {
        " " + text.lowercased().replacingOccurrences(of: "_", with: "-")
    }
}
