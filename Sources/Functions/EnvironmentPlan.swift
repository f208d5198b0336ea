// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore

/// Everything that decides a function's virtual environment.
struct EnvironmentPlan: Sendable {
    /// A local library named in `customDeps`.
    struct LocalLibrary: Sendable {
        /// As it is written.
        var name: String
        var files: [TarArchive.File]
        /// Whether pip can install it; otherwise it is a plain package folder that is copied.
        var isProject: Bool
    }

    /// One requirement, for messages.
    struct Requirement: Sendable {
        var text: String
        var file: String
        var line: Int
    }

    let interpreter: PythonInterpreter
    /// The function's files, among which requirements may name some.
    let files: [TarArchive.File]
    let hasRequirements: Bool
    let hasConstraints: Bool
    let requirements: [Requirement]
    let libraries: [LocalLibrary]
    /// Hash of all of the above that matters.
    let digest: String

    /// Works the plan out; blocks where `customDeps` names folders outside of the function's.
    init(files: [TarArchive.File], interpreter: PythonInterpreter) throws {
        self.interpreter = interpreter
        self.files = files
        var reading = RequirementReading(files: files)
        try reading.read("requirements.txt")
        requirements = reading.requirements
        hasRequirements = !reading.requirements.isEmpty
        hasConstraints = hasRequirements && reading.has("constraints.txt")
        if hasConstraints { try reading.read("constraints.txt") }
        libraries = try Self.libraries(files)
        var digest = ContentDigest("martlet environment 1")
        for part in [interpreter.path, interpreter.version, interpreter.platform] { digest.add(part) }
        if hasRequirements {
            for file in reading.used { digest.add(file) }
        }
        for library in libraries {
            digest.add(library.name)
            for file in library.files { digest.add(file) }
        }
        self.digest = digest.text()
    }

    /// Whether anything is to be installed.
    var isEmpty: Bool { !hasRequirements && libraries.isEmpty }

    private static func libraries(_ files: [TarArchive.File]) throws -> [LocalLibrary] {
        guard let list = files.first(where: { $0.path == "customDeps" }) else { return [] }
        var libraries: [LocalLibrary] = []
        for (number, line) in String(decoding: list.content, as: UTF8.self).split(
            separator: "\n",
            omittingEmptySubsequences: false
        ).enumerated() {
            let entry = line.trimmingCharacters(in: .whitespaces)
            guard !entry.isEmpty, !entry.hasPrefix("#") else { continue }
            libraries.append(try library(entry, line: number + 1, files))
        }
        return libraries
    }

    private static func library(_ entry: String, line: Int, _ files: [TarArchive.File]) throws -> LocalLibrary {
        let found: [TarArchive.File]
        if entry.hasPrefix("/") {
            found = try outside(entry, line: line)
        } else {
            var path = entry[...]
            while path.hasPrefix("./") { path = path.dropFirst(2) }
            while path.hasSuffix("/") { path = path.dropLast() }
            let name = path.split(separator: "/").last.map(String.init) ?? ""
            found = files.compactMap { file in
                if file.path == path { return TarArchive.File(path: name, content: file.content) }
                guard file.path.hasPrefix(path + "/") else { return nil }
                let inner = file.path.dropFirst(path.utf8.count + 1)
                return TarArchive.File(path: "\(name)/\(inner)", content: file.content, isExecutable: file.isExecutable)
            }
        }
        guard let first = found.first else {
            throw ServiceError.invalid(
                field: "customDeps",
                "there is no '\(entry)' in the function's folder",
                fix: "copy the library into the function's folder, or write its absolute path on the engine's machine",
                line: line
            )
        }
        let root = first.path.split(separator: "/")[0]
        let isFile = found.count == 1 && first.path == root
        let isProject =
            isFile || found.contains { $0.path == "\(root)/pyproject.toml" || $0.path == "\(root)/setup.py" }
        guard isProject || found.contains(where: { $0.path.hasSuffix(".py") }) else {
            throw ServiceError.invalid(
                field: "customDeps",
                "'\(entry)' is neither a Python project nor a package",
                fix: "name a folder with pyproject.toml, setup.py or Python files, or a wheel",
                line: line
            )
        }
        return LocalLibrary(name: entry, files: found, isProject: isProject)
    }

    private static func outside(_ path: String, line: Int) throws -> [TarArchive.File] {
        var isDirectory: ObjCBool = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) else { return [] }
        let name = URL(fileURLWithPath: path).lastPathComponent
        guard isDirectory.boolValue else {
            return [TarArchive.File(path: name, content: Array(try Data(contentsOf: URL(fileURLWithPath: path))))]
        }
        return try FunctionFolder.files(path).map { file in
            TarArchive.File(path: "\(name)/\(file.path)", content: file.content, isExecutable: file.isExecutable)
        }
    }
}

/// Follows requirements files through the files they name.
private struct RequirementReading {
    let files: [TarArchive.File]
    private(set) var requirements: [EnvironmentPlan.Requirement] = []
    /// Files that decide the result, sorted by path.
    var used: [TarArchive.File] { files.filter { usedPaths.contains($0.path) } }
    private var usedPaths: Set<String> = []

    init(files: [TarArchive.File]) {
        self.files = files
    }

    func has(_ path: String) -> Bool {
        files.contains { $0.path == path }
    }

    mutating func read(_ path: String, from above: String = "") throws {
        guard let file = files.first(where: { $0.path == path }) else { return }
        guard usedPaths.insert(path).inserted else { return }
        guard let text = String(validating: file.content, as: UTF8.self) else {
            throw ServiceError.invalid(field: path, "the file is not UTF-8", fix: "save \(path) as UTF-8")
        }
        let directory = path.contains("/") ? path[..<(path.lastIndex(of: "/") ?? path.startIndex)] + "/" : ""
        var pending = ""
        for (number, raw) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            var line = raw.trimmingCharacters(in: .whitespacesAndNewlines)
            if line.hasPrefix("#") { line = "" }
            if let comment = line.range(of: " #") { line = String(line[..<comment.lowerBound]) }
            if line.hasSuffix("\\") {
                pending += line.dropLast() + " "
                continue
            }
            line = (pending + line).trimmingCharacters(in: .whitespaces)
            pending = ""
            if !line.isEmpty { try readLine(line, path, number + 1, directory: String(directory)) }
        }
    }

    private mutating func readLine(_ line: String, _ path: String, _ number: Int, directory: String) throws {
        let words = line.split { $0 == " " || $0 == "\t" || $0 == "=" }.map(String.init)
        if let option = words.first, option == "-e" || option == "--editable" || line.hasPrefix("-e.") {
            throw ServiceError.invalid(
                field: path,
                "line \(number): '\(line)' is an editable install, which a bundle cannot keep",
                fix: "write the path without -e, or list the folder in customDeps",
                line: number
            )
        }
        for word in words {
            var name = word
            for option in ["-r", "-c"] where name.hasPrefix(option) && name.count > 2 && !name.hasPrefix("--") {
                name = String(name.dropFirst(2))
            }
            try use(name, directory: directory, path: path)
        }
        let isOption = line.hasPrefix("-")
        if !isOption || line.hasPrefix("-r") || line.hasPrefix("--requirement") {
            requirements.append(.init(text: line, file: path, line: number))
        }
    }

    /// Counts a file or folder of the function that a line names.
    private mutating func use(_ word: String, directory: String, path: String) throws {
        var name = word.prefix { $0 != "[" && $0 != ";" }
        if name.hasPrefix("file:") { name = name.dropFirst(5) }
        while name.hasPrefix("./") { name = name.dropFirst(2) }
        while name.hasSuffix("/") { name = name.dropLast() }
        for candidate in [directory + name, String(name)] where !candidate.isEmpty {
            if has(candidate) {
                if candidate.hasSuffix(".txt") || candidate.hasSuffix(".in") {
                    try read(candidate, from: path)
                } else {
                    usedPaths.insert(candidate)
                }
            }
            for file in files where file.path.hasPrefix(candidate + "/") { usedPaths.insert(file.path) }
        }
    }
}
