// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation

let arguments = CommandLine.arguments.dropFirst()
guard arguments.count == 3, let turns = Int(arguments[2]), let megabytes = Int(arguments[3]), min(turns, megabytes) > 0
else {
    FileHandle.standardError.write(Data("usage: eventlog-benchmark DIRECTORY TURNS MEGABYTES\n".utf8))
    exit(2)
}
do {
    let benchmark = AppendBenchmark(directory: arguments[1], bytesPerTurn: megabytes << 20)
    let report = try await benchmark.run(turns: turns)
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    encoder.keyEncodingStrategy = .convertToSnakeCase
    FileHandle.standardOutput.write(try encoder.encode(report) + Data("\n".utf8))
} catch {
    FileHandle.standardError.write(Data("eventlog-benchmark: \(error)\n".utf8))
    exit(1)
}
