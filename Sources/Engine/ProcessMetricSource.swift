// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Glibc
import MartletCore
import Telemetry

/// Looks up what the engine takes of the machine.
struct ProcessMetricSource: MetricSource {
    let directory: String
    let telemetry: TelemetryStore

    func readings() async -> [MetricReading] {
        var all = [
            MetricReading(EngineMetrics.telemetryQueue, value: telemetry.queued),
            MetricReading(EngineMetrics.telemetryDropped, value: telemetry.dropped),
        ]
        var disk = statvfs()
        if statvfs(directory, &disk) == 0 {
            let block = Double(disk.f_frsize)
            all.append(MetricReading(EngineMetrics.diskUsed, [:], Double(disk.f_blocks - disk.f_bfree) * block))
            all.append(MetricReading(EngineMetrics.diskFree, [:], Double(disk.f_bavail) * block))
        }
        var usage = rusage()
        if getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0 {
            all.append(
                MetricReading(
                    EngineMetrics.processTime,
                    [:],
                    Self.seconds(usage.ru_utime) + Self.seconds(usage.ru_stime)
                )
            )
        }
        // Files of /proc are made by the kernel in memory: reading them does not wait for a disk.
        if let text = try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8),
            let pages = text.split(separator: " ").dropFirst().first.flatMap({ Int($0) })
        {
            all.append(MetricReading(EngineMetrics.processMemory, value: pages * sysconf(Int32(_SC_PAGESIZE))))
        }
        if let files = try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd") {
            // The listing itself is one of them.
            all.append(MetricReading(EngineMetrics.processFiles, value: files.count - 1))
        }
        return all
    }

    private static func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1_000_000 }
}

extension MetricReading {
    fileprivate init(_ definition: MetricDefinition, value: Int) { self.init(definition, [:], Double(value)) }
}
