// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore

/// Operating system packages that a function lists in its `Aptfile`.
enum SystemPackages {
    /// The packages of an Aptfile, one a line, comments left out.
    ///
    /// - Throws: `.invalid` with the line of what is no package's name.
    static func read(_ content: some Collection<UInt8>) throws -> [String] {
        var packages: [String] = []
        for (number, raw) in String(decoding: content, as: UTF8.self).split(
            separator: "\n",
            omittingEmptySubsequences: false
        ).enumerated() {
            let line = raw.prefix { $0 != "#" }.trimmingCharacters(in: .whitespacesAndNewlines)
            guard !line.isEmpty else { continue }
            let isName =
                line.utf8.first.map { (0x30...0x39).contains($0) || (0x61...0x7A).contains($0) } ?? false
                && line.utf8.allSatisfy { byte in
                    (0x30...0x39).contains(byte) || (0x61...0x7A).contains(byte) || byte == 0x2B || byte == 0x2D
                        || byte == 0x2E
                        || byte == 0x3A
                }
            guard isName else {
                throw ServiceError.invalid(
                    field: "Aptfile",
                    "line \(number + 1): '\(line.prefix(100))' is not a package's name",
                    fix: "write one Debian package's name a line",
                    line: number + 1
                )
            }
            packages.append(line)
        }
        return packages
    }

    /// Checks that packages are installed, and installs them where the settings allow it.
    ///
    /// - Throws: `.failedPrecondition` with the command that installs what is missing.
    static func ensure(
        _ packages: [String],
        settings: FunctionSettings,
        line: @escaping @Sendable (String) -> Void
    ) async throws {
        guard !packages.isEmpty else { return }
        let query = "/usr/bin/dpkg-query"
        guard FileManager.default.isExecutableFile(atPath: query) else {
            line("warning: the Aptfile is not checked, because this system has no dpkg-query")
            return
        }
        var missing: [String] = []
        for package in packages {
            let outcome = try await CommandRunner.run(
                query,
                ["-W", "-f=${db:Status-Status}\n", package],
                environment: PythonEnvironment.variables(),
                timeout: .seconds(30)
            )
            if outcome.code != 0 || !outcome.lines.contains("installed") { missing.append(package) }
        }
        guard !missing.isEmpty else { return }
        let command = "apt-get install -y --no-install-recommends \(missing.joined(separator: " "))"
        guard settings.installsSystemPackages else {
            throw ServiceError(
                .failedPrecondition,
                "Aptfile: not installed on the engine's machine: \(missing.joined(separator: ", "))",
                fix: "install what is missing and build again: sudo \(command)",
                fields: missing.map { .init(field: "Aptfile", message: "'\($0)' is not installed") }
            )
        }
        line("Running \(command)")
        let outcome = try await CommandRunner.run(
            "/usr/bin/env",
            ["DEBIAN_FRONTEND=noninteractive"] + command.split(separator: " ").map(String.init),
            environment: PythonEnvironment.variables(),
            timeout: settings.installTimeout,
            line: line
        )
        guard outcome.code == 0 else {
            throw ServiceError(
                .failedPrecondition,
                "Aptfile: apt-get ended with \(outcome.code): \(outcome.lines.last { $0.hasPrefix("E:") } ?? "")",
                fix: "correct what it says and build again; by hand: sudo \(command)",
                detail: outcome.lines.joined(separator: "\n")
            )
        }
    }
}
