// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import CLinux

/// Keeps glibc's allocator from holding on to what a burst needed.
enum AllocatorSettings {
    /// Few heaps for all threads: more would each keep their own peak.
    private static let arenasMax: Int32 = 2
    private static let trimThresholdBytes: Int32 = 16 << 20
    /// DuckDB's blocks of 256 KiB and the columns of sinks come and go all the time: pages that the kernel gives anew for each cost a
    /// fifth of a sink's processor time.
    private static let mapThresholdBytes: Int32 = 2 << 20

    /// Applies them; called once, before threads are started.
    static func apply() {
        martlet_limit_allocator(arenasMax, trimThresholdBytes, mapThresholdBytes)
    }

    /// Gives free memory back every half minute until cancelled.
    static func trimRegularly() async {
        while !Task.isCancelled {
            do { try await Task.sleep(for: .seconds(30)) } catch { return }
            martlet_trim_allocator()
        }
    }
}
