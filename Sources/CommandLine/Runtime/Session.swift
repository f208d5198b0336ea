// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import ArgumentParser
import Foundation

/// What surrounds one run of the command line: streams, environment, and who does what needs no engine.
///
/// Commands find theirs in ``current``, which the runner binds, so tests run commands in process with streams of their own.
package struct Session: Sendable {
    package var output: Output
    package var diagnostics: Output
    /// Where standard input is read from.
    package var input: Int32
    package var inputIsTerminal: Bool
    package var environment: [String: String]
    package var workshop: any FunctionWorkshop
    /// The version `martlet version` prints.
    package var version: String
    /// The root command, for documentation and completion scripts.
    package var root: any AsyncParsableCommand.Type

    package init(
        output: Output,
        diagnostics: Output,
        input: Int32,
        inputIsTerminal: Bool,
        environment: [String: String],
        workshop: any FunctionWorkshop,
        version: String,
        root: any AsyncParsableCommand.Type
    ) {
        self.output = output
        self.diagnostics = diagnostics
        self.input = input
        self.inputIsTerminal = inputIsTerminal
        self.environment = environment
        self.workshop = workshop
        self.version = version
        self.root = root
    }

    /// The session of this process.
    package static func process(
        root: any AsyncParsableCommand.Type,
        workshop: any FunctionWorkshop,
        version: String
    ) -> Self {
        let environment = ProcessInfo.processInfo.environment
        return Self(
            output: Output(descriptor: STDOUT_FILENO, environment: environment),
            diagnostics: Output(descriptor: STDERR_FILENO, environment: environment),
            input: STDIN_FILENO,
            inputIsTerminal: isatty(STDIN_FILENO) == 1,
            environment: environment,
            workshop: workshop,
            version: version,
            root: root
        )
    }

    @TaskLocal private static var bound: Session?

    /// The session of the running command.
    package static var current: Session {
        get throws {
            guard let bound else {
                throw CommandFailure(.failure, "a client command ran outside the command-line runner")
            }
            return bound
        }
    }

    /// Runs `body` with this session as the current one.
    package func run<R: Sendable>(_ body: () async throws -> R) async rethrows -> R {
        try await Self.$bound.withValue(self, operation: body)
    }

    /// Everything standard input has, up to `limit` bytes.
    package func readInput(limit: Int = 256 << 20) throws -> [UInt8] {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = read(input, &chunk, chunk.count)
            if count == 0 { return bytes }
            if count < 0 {
                if errno == EINTR { continue }
                throw CommandFailure(.failure, "cannot read standard input: \(String(cString: strerror(errno)))")
            }
            bytes += chunk[..<count]
            guard bytes.count <= limit else {
                throw CommandFailure(.refused, "standard input has more than \(limit) bytes")
            }
        }
    }
}
