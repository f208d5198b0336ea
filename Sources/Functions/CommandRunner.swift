// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore
import Subprocess

/// Runs programs of other people: output comes line by line, and cancelling kills the program and what it started.
enum CommandRunner {
    /// How a program ended.
    struct Outcome: Sendable {
        /// Exit code, or minus the signal that ended it.
        var code: Int
        /// The last lines it printed, standard error included.
        var lines: [String]
    }

    /// Most lines that are kept for a failure's message.
    static let linesKept = 400

    /// Runs a program until it ends.
    ///
    /// - Throws: `.failedPrecondition` where it cannot be started, `.timeout`, `CancellationError`.
    static func run(
        _ executable: String,
        _ arguments: [String],
        environment: [String: String],
        directory: String? = nil,
        timeout: Duration,
        line: @escaping @Sendable (String) -> Void = { _ in }
    ) async throws -> Outcome {
        try await withThrowingTaskGroup(of: Outcome?.self) { group in
            group.addTask { try await start(executable, arguments, environment, directory, line) }
            group.addTask {
                try await Task.sleep(for: timeout)
                return nil
            }
            defer { group.cancelAll() }
            guard let first = try await group.next(), let outcome = first else {
                throw ServiceError(.timeout, "\(executable) did not end within \(timeout)", fix: "run the build again")
            }
            return outcome
        }
    }

    private static func start(
        _ executable: String,
        _ arguments: [String],
        _ environment: [String: String],
        _ directory: String?,
        _ line: @escaping @Sendable (String) -> Void
    ) async throws -> Outcome {
        var options = PlatformOptions()
        options.createSession = true
        options.teardownSequence = [.gracefulShutDown(toProcessGroup: true, allowedDurationToNextStep: .seconds(2))]
        let variables = environment.reduce(into: [Environment.Key: String]()) { all, variable in
            if let key = Environment.Key(rawValue: variable.key) { all[key] = variable.value }
        }
        do {
            let result = try await Subprocess.run(
                .path(literal(executable)),
                arguments: Arguments(arguments),
                environment: .custom(variables),
                workingDirectory: directory.map { literal($0) },
                platformOptions: options,
                input: .none,
                output: .sequence,
                error: .combinedWithOutput
            ) { execution in
                var kept: [String] = []
                for try await text in execution.standardOutput.strings(bufferingPolicy: .maxLineLength(1 << 20)) {
                    line(text)
                    kept.append(text)
                    if kept.count >= 2 * linesKept { kept.removeFirst(linesKept) }
                }
                return kept
            }
            try Task.checkCancellation()
            return Outcome(code: code(result.terminationStatus), lines: result.closureResult.suffix(linesKept))
        } catch let error as SubprocessError {
            try Task.checkCancellation()
            throw ServiceError(
                .failedPrecondition,
                "cannot run \(executable): \(error)",
                fix: "check that the program exists and may be executed"
            )
        }
    }

    /// The library takes paths only as a type of swift-system, which is made here as from a literal so as not to depend on it.
    private static func literal<T: ExpressibleByStringLiteral>(_ path: String) -> T
    where T.StringLiteralType == String {
        T(stringLiteral: path)
    }

    private static func code(_ status: TerminationStatus) -> Int {
        switch status {
        case .exited(let code): Int(code)
        case .signaled(let signal): -Int(signal)
        }
    }
}
