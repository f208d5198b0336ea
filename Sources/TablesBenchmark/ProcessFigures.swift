// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Glibc

/// What this process uses.
enum ProcessFigures {
    /// Processor time of all threads so far, in seconds.
    static func processorSeconds() -> Double {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
        return seconds(usage.ru_utime) + seconds(usage.ru_stime)
    }

    /// Resident bytes now.
    static func residentBytes() -> Int { status("VmRSS:") }

    /// The most resident bytes since ``resetPeak()``.
    static func peakBytes() -> Int { status("VmHWM:") }

    /// Begins a new peak.
    static func resetPeak() {
        let file = open("/proc/self/clear_refs", O_WRONLY)
        guard file >= 0 else { return }
        write(file, "5", 1)
        close(file)
    }

    private static func status(_ name: String) -> Int {
        guard let text = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8) else { return 0 }
        for line in text.split(separator: "\n") where line.hasPrefix(name) {
            return Int(line.split(whereSeparator: { $0 == " " || $0 == "\t" })[1]).map { $0 * 1024 } ?? 0
        }
        return 0
    }
}
