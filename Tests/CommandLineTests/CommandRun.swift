// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import CommandLine
import Foundation
import MartletCore
import Synchronization

/// The root command as the executable declares it, with nothing added.
struct TestRoot: AsyncParsableCommand {
    static let configuration = MartletCommand.configuration(adding: [])
}

/// A workshop that keeps to its contract and remembers what it was asked.
final class RecordingWorkshop: FunctionWorkshop {
    private let runs = Mutex<[LocalRun]>([])

    var localRuns: [LocalRun] { runs.withLock { $0 } }

    func scaffold(name: String, folder: String, handler: String, force: Bool) throws -> [String] {
        guard force || !FileManager.default.fileExists(atPath: folder) else {
            throw ServiceError(.alreadyExists, "\(folder) exists already", fix: "choose another name")
        }
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try Data("def handler(ctx, event): pass\n".utf8).write(to: URL(fileURLWithPath: "\(folder)/\(handler)"))
        return [handler]
    }

    func archive(folder: String) throws -> [UInt8] {
        Array("archive of \((folder as NSString).lastPathComponent)".utf8)
    }

    func localRun(_ run: LocalRun) async throws -> Int32 {
        runs.withLock { $0.append(run) }
        return 0
    }
}

/// What one run of the command line left behind.
struct CommandRun {
    var status: CommandStatus
    var output: String
    var errors: String

    /// Runs `arguments` in this process with files as its streams.
    static func run(
        _ arguments: [String],
        server: String? = nil,
        environment: [String: String] = [:],
        input: String = "",
        columns: Int? = nil,
        inputIsTerminal: Bool = false,
        workshop: RecordingWorkshop = RecordingWorkshop()
    ) async throws -> Self {
        let output = try Scratch()
        let errors = try Scratch()
        let source = try Scratch(contents: input)
        var variables = ["MARTLET_CONFIG": "/nonexistent/martlet/config.toml", "LANG": "C.UTF-8"]
        if let server { variables["MARTLET_SERVER"] = server }
        variables.merge(environment) { $1 }
        let session = Session(
            output: Output(descriptor: output.descriptor, isTerminal: columns != nil, columns: columns),
            diagnostics: Output(descriptor: errors.descriptor, isTerminal: false),
            input: source.descriptor,
            inputIsTerminal: inputIsTerminal,
            environment: variables,
            workshop: workshop,
            version: "9.8.7",
            root: TestRoot.self
        )
        let status = await CommandRunner.run(arguments, session: session)
        return Self(status: status, output: output.text, errors: errors.text)
    }

    /// Runs `arguments` against a server that gives every request the same answer.
    static func run(
        _ arguments: [String],
        answer: CannedServer.Answer,
        columns: Int? = nil
    ) async throws -> Self {
        var result: Self?
        try await CannedServer.with({ _ in answer }) { server in
            result = try await run(arguments, server: server.address, columns: columns)
        }
        guard let result else { throw CocoaError(.fileNoSuchFile) }
        return result
    }

    /// An unnamed file.
    private final class Scratch {
        let descriptor: Int32

        init(contents: String = "") throws {
            var template = Array("\(NSTemporaryDirectory())/martlet-cli-XXXXXX\0".utf8CString.map { $0 })
            descriptor = template.withUnsafeMutableBufferPointer { buffer in
                guard let base = buffer.baseAddress else { return -1 }
                let descriptor = mkstemp(base)
                if descriptor >= 0 { unlink(base) }
                return descriptor
            }
            guard descriptor >= 0 else { throw CocoaError(.fileWriteUnknown) }
            try Output(descriptor: descriptor, isTerminal: false).write(contents.utf8)
            lseek(descriptor, 0, SEEK_SET)
        }

        var text: String {
            lseek(descriptor, 0, SEEK_SET)
            var bytes: [UInt8] = []
            var chunk = [UInt8](repeating: 0, count: 1 << 16)
            while case let count = read(descriptor, &chunk, chunk.count), count > 0 { bytes += chunk[..<count] }
            return String(decoding: bytes, as: UTF8.self)
        }

        deinit { close(descriptor) }
    }
}

/// Runs `body` with a folder that is gone afterwards.
func withFolder(_ body: (String) async throws -> Void) async throws {
    let folder = NSTemporaryDirectory() + "/martlet-cli-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    do {
        try await body(folder)
    } catch {
        try? FileManager.default.removeItem(atPath: folder)
        throw error
    }
    try FileManager.default.removeItem(atPath: folder)
}

extension String {
    /// Writes the text to a new file and returns its path.
    func file(_ name: String, in folder: String) throws -> String {
        let path = "\(folder)/\(name)"
        try Data(utf8).write(to: URL(fileURLWithPath: path))
        return path
    }
}
