// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Glibc

/// How many files the process may have open.
enum OpenFileLimit {
    /// Enough for every partition there may be; more would make programs slow that close whatever they might have inherited.
    private static let wanted: rlim_t = 1 << 17

    /// Raises the limit as far as the system allows without being asked: each partition keeps one file open.
    static func raise() {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        let target = min(limit.rlim_max, wanted)
        guard target > limit.rlim_cur else { return }
        limit.rlim_cur = target
        // Refused, everything works as far as the files go.
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }
}
