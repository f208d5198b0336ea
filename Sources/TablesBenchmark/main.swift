// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import CLinux
import Foundation
import MartletCore

let usage = """
    usage: tables-benchmark fill DIRECTORY FILE PARTITIONS
           tables-benchmark ingest DIRECTORY [COMMIT_MEGABYTES]
           tables-benchmark read FILE RECORDS_PER_BATCH
           tables-benchmark visible DIRECTORY PROBES RECORDS_PER_SECOND
           tables-benchmark commits DIRECTORY COMMITS ROWS REPEATS
           tables-benchmark point DIRECTORY HOURS ROWS REPEATS
           tables-benchmark telemetry DATA_DIRECTORY SPANS LOGS

    """
// As the engine does.
martlet_limit_allocator(2, 16 << 20, 2 << 20)

func write(_ report: some Encodable) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    encoder.keyEncodingStrategy = .convertToSnakeCase
    FileHandle.standardOutput.write(try encoder.encode(report) + Data("\n".utf8))
}

let arguments = Array(CommandLine.arguments.dropFirst())
let numbers = arguments.dropFirst(2).map { Int($0) ?? -1 }
do {
    switch (arguments.first, arguments.count) {
    case ("fill", 4):
        let records = try await IngestBenchmark.fill(
            arguments[1],
            file: arguments[2],
            partitions: Int32(clamping: max(1, numbers[1]))
        )
        try write(["records": records])
    case ("ingest", 2): try write(try await IngestBenchmark.run(arguments[1]))
    case ("ingest", 3):
        let spec = TableSpec(topic: BenchmarkStand.topic, commitBytes: Int64(max(1, numbers[0])) << 20)
        try write(try await IngestBenchmark.run(arguments[1], spec: spec))
    case ("read", 3): try write(try ReadBenchmark.run(arguments[1], recordsPerBatch: max(1, numbers[0])))
    case ("visible", 4):
        try write(try await VisibleBenchmark.run(arguments[1], probes: numbers[0], background: numbers[1]))
    case ("commits", 5):
        try write(
            try await QueryBenchmark.commits(arguments[1], count: numbers[0], rows: numbers[1], repeats: numbers[2])
        )
    case ("point", 5):
        try write(
            try await QueryBenchmark.point(arguments[1], hours: numbers[0], rows: numbers[1], repeats: numbers[2])
        )
    case ("telemetry", 4): try write(try await TelemetryLoad.run(arguments[1], spans: numbers[0], logs: numbers[1]))
    default:
        FileHandle.standardError.write(Data(usage.utf8))
        exit(2)
    }
} catch {
    FileHandle.standardError.write(Data("tables-benchmark: \(error)\n".utf8))
    exit(1)
}
