// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Glibc

/// How many files the process may have open.
enum OpenFileLimit {
    /// Enough for whatever is used at once; more would make programs slow that close whatever they might have inherited.
    private static let wanted: rlim_t = 1 << 17
    private static let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)

    /// The number of files and sockets the process may have open at this moment.
    static var current: Int {
        var limit = rlimit()
        guard getrlimit(resource, &limit) == 0 else { return 1024 }
        return Int(clamping: limit.rlim_cur)
    }

    /// How many segments may be kept open: half of what there is beside the engine's own, so that connections, tables and workers
    /// find theirs.
    static var forSegments: Int { max(8, (current - 128) / 2) }

    /// Raises the limit as far as the system allows without being asked.
    static func raise() {
        var limit = rlimit()
        guard getrlimit(resource, &limit) == 0 else { return }
        let target = min(limit.rlim_max, wanted)
        guard target > limit.rlim_cur else { return }
        limit.rlim_cur = target
        // Refused, everything works as far as the files go.
        setrlimit(resource, &limit)
    }
}
