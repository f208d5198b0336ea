// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation

let arguments = CommandLine.arguments.dropFirst()
guard arguments.count == 3, let rounds = Int(arguments[arguments.startIndex + 1]), let megabytes = Int(arguments[arguments.startIndex + 2]),
    rounds > 0, megabytes > 0
else {
    FileHandle.standardError.write(Data("usage: eventlog-benchmark DIRECTORY ROUNDS MEGABYTES\n".utf8))
    exit(2)
}
do {
    let benchmark = AppendBenchmark(directory: arguments[arguments.startIndex], bytes: megabytes << 20)
    let report = try await benchmark.run(rounds: rounds)
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    encoder.keyEncodingStrategy = .convertToSnakeCase
    FileHandle.standardOutput.write(try encoder.encode(report) + Data("\n".utf8))
} catch {
    FileHandle.standardError.write(Data("eventlog-benchmark: \(error)\n".utf8))
    exit(1)
}
