// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore

/// Virtual environments by the hash of everything that decides them, each made once.
final class EnvironmentStore: Sendable {
    private static let markName = "martlet-environment.json"
    /// The last `.pth` file of a site directory: what it names comes after the function's own packages.
    private static let pathFileName = "zzz-martlet-runtime.pth"

    private struct Mark: Codable {
        var format = 1
        var python: PythonInterpreter
    }

    let directory: String
    private let settings: FunctionSettings
    private let gate = KeyedGate()

    init(_ settings: FunctionSettings) {
        self.settings = settings
        directory = "\(settings.root)/environments"
    }

    /// The directory of an environment, whether it exists or not.
    func path(_ digest: String) -> String { "\(directory)/\(digest)" }

    /// Whether an environment is whole and its interpreter still there; blocks.
    func isReady(_ digest: String) -> Bool {
        let path = path(digest)
        return FileManager.default.fileExists(atPath: "\(path)/\(Self.markName)")
            && FileManager.default.isExecutableFile(atPath: "\(path)/bin/python")
    }

    /// Makes the environment of a plan unless it is there.
    ///
    /// The environment appears whole or not at all; builders of the same one wait for the first.
    /// - Returns: Whether it was there already.
    /// - Throws: `ServiceError` that quotes pip and names the requirement.
    func ensure(
        _ plan: EnvironmentPlan,
        isFresh: Bool,
        line: @escaping @Sendable (String) -> Void
    ) async throws -> Bool {
        try await gate.run(plan.digest) {
            if !isFresh, try await BlockingWork.run({ try self.reuse(plan) }) { return true }
            line("[Started] Environment \(plan.digest.prefix(12)) with Python \(plan.interpreter.version)")
            let temporary = "\(self.directory)/.tmp-\(UUID().uuidString.lowercased())"
            do {
                try await BlockingWork.run { try self.make(plan, at: temporary) }
                let installer = PackageInstaller(
                    settings: self.settings,
                    plan: plan,
                    environment: temporary,
                    isFresh: isFresh
                )
                try await installer.install(line: line)
                try await BlockingWork.run { try self.finish(plan, temporary) }
            } catch {
                // What is left of a failed build has no use, and the next start removes it if this cannot.
                _ = try? await BlockingWork.run { try FileManager.default.removeItem(atPath: temporary) }
                throw error
            }
            line("[Completed] Environment \(plan.digest.prefix(12))")
            return false
        }
    }

    /// Removes what crashed builds left; blocks.
    func removeLeftovers() throws {
        try DurableFiles.makeDirectory(directory)
        for name in try FileManager.default.contentsOfDirectory(atPath: directory) where name.hasPrefix(".") {
            try FileManager.default.removeItem(atPath: "\(directory)/\(name)")
        }
    }

    // MARK: Making

    /// The site directory of an environment of a Python version.
    static func sitePackages(_ environment: String, _ interpreter: PythonInterpreter) -> String {
        let short = interpreter.version.split(separator: ".").prefix(2).joined(separator: ".")
        return "\(environment)/lib/python\(short)/site-packages"
    }

    private func reuse(_ plan: EnvironmentPlan) throws -> Bool {
        guard isReady(plan.digest) else { return false }
        try writePathFile(path(plan.digest), plan.interpreter)
        // Garbage collection spares what was used lately; where the time cannot be set it is collected earlier than it might be.
        try? FileManager.default.setAttributes([.modificationDate: Date()], ofItemAtPath: path(plan.digest))
        return true
    }

    /// Lays out what `venv --without-pip` lays out (PEP 405), without starting a Python.
    private func make(_ plan: EnvironmentPlan, at path: String) throws {
        let interpreter = plan.interpreter
        let files = FileManager.default
        let short = interpreter.version.split(separator: ".").prefix(2).joined(separator: ".")
        try DurableFiles.makeDirectory("\(path)/bin")
        try DurableFiles.makeDirectory("\(path)/include")
        try DurableFiles.makeDirectory(Self.sitePackages(path, interpreter))
        try files.createSymbolicLink(atPath: "\(path)/lib64", withDestinationPath: "lib")
        try files.createSymbolicLink(atPath: "\(path)/bin/python", withDestinationPath: interpreter.path)
        try files.createSymbolicLink(atPath: "\(path)/bin/python3", withDestinationPath: "python")
        try files.createSymbolicLink(atPath: "\(path)/bin/python\(short)", withDestinationPath: "python")
        let home = (interpreter.path as NSString).deletingLastPathComponent
        let settings = """
            home = \(home)
            include-system-site-packages = false
            version = \(interpreter.version)
            executable = \(interpreter.path)

            """
        try DurableFiles.write(Array(settings.utf8), to: "\(path)/pyvenv.cfg", syncs: false)
    }

    private func finish(_ plan: EnvironmentPlan, _ temporary: String) throws {
        let final = path(plan.digest)
        try rewriteScripts(in: "\(temporary)/bin", from: temporary, to: final)
        try writePathFile(temporary, plan.interpreter)
        let mark = try JSONEncoder().encode(Mark(python: plan.interpreter))
        try DurableFiles.write(Array(mark), to: "\(temporary)/\(Self.markName)", syncs: false)
        try DurableFiles.syncTree(temporary)
        let old = "\(directory)/.old-\(UUID().uuidString.lowercased())"
        let replaces = FileManager.default.fileExists(atPath: final)
        if replaces { try DurableFiles.move(final, to: old) }
        try DurableFiles.move(temporary, to: final)
        if replaces { try FileManager.default.removeItem(atPath: old) }
    }

    /// Scripts that pip made name the interpreter by its path, which changes when the environment gets its final name.
    private func rewriteScripts(in directory: String, from old: String, to new: String) throws {
        for name in try FileManager.default.contentsOfDirectory(atPath: directory) {
            let path = "\(directory)/\(name)"
            let attributes = try FileManager.default.attributesOfItem(atPath: path)
            guard attributes[.type] as? FileAttributeType == .typeRegular, (attributes[.size] as? Int ?? 0) < 1 << 20
            else { continue }
            let data = try Data(contentsOf: URL(fileURLWithPath: path))
            guard let text = String(validating: data, as: UTF8.self), text.contains(old) else { continue }
            try Data(text.replacingOccurrences(of: old, with: new).utf8).write(to: URL(fileURLWithPath: path))
            try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
        }
    }

    private func writePathFile(_ environment: String, _ interpreter: PythonInterpreter) throws {
        let path = "\(Self.sitePackages(environment, interpreter))/\(Self.pathFileName)"
        let content = Array(settings.runtimePaths.map { $0 + "\n" }.joined().utf8)
        guard try DurableFiles.read(path) != content else { return }
        try DurableFiles.replace(path, with: content)
    }
}
