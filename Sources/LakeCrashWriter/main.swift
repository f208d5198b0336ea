// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

// Used by tests only.
//   LakeCrashWriter write DIRECTORY CANDIDATE COMMITTERS            prints "ack COMMITTER NUMBER" after each durable commit
//   LakeCrashWriter load  DIRECTORY CANDIDATE COMMITTERS SECONDS    prints throughput, latencies and memory

import Glibc
import Lake
import Logging

guard CommandLine.arguments.count >= 5, let committers = Int(CommandLine.arguments[4]) else {
    print("usage: LakeCrashWriter write|load DIRECTORY CANDIDATE COMMITTERS [SECONDS]")
    exit(64)
}
let started = ContinuousClock.now
let lake = Lake(
    configuration: LakeConfiguration(
        directory: CommandLine.arguments[2],
        libraryCandidates: [CommandLine.arguments[3]]
    ),
    logger: Logger(label: "lake", factory: { _ in SwiftLogNoOpLogHandler() })
)
if CommandLine.arguments[1] == "write" {
    try await AcknowledgedWrites.run(lake, committers: committers)
} else {
    let seconds = CommandLine.arguments.count > 5 ? Int(CommandLine.arguments[5]) ?? 5 : 5
    try await lake.open()
    print("open \(ContinuousClock.now - started), resident \(LoadMeasurement.residentMegabytes()) MB")
    try await LoadMeasurement.run(lake, committers: committers, seconds: seconds)
    let loaded = ContinuousClock.now
    try await lake.checkpoint()
    print("checkpoint \(ContinuousClock.now - loaded)")
    await lake.close()
}
