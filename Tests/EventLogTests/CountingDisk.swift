// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Glibc
import Synchronization

/// Counts flushes, makes them fail on demand, and keeps a clock that tests set.
final class CountingDisk: Sendable {
    private let count = Atomic<Int>(0)
    private let failure = Atomic<Int32>(0)
    private let milliseconds = Atomic<Int64>(1_000_000_000_000)

    var flushes: Int { count.load(ordering: .sequentiallyConsistent) }

    var settings: LocalLogSettings {
        LocalLogSettings(
            now: { self.milliseconds.load(ordering: .sequentiallyConsistent) },
            synchronize: { descriptor in
                self.count.add(1, ordering: .sequentiallyConsistent)
                let failing = self.failure.load(ordering: .sequentiallyConsistent)
                if failing != 0 { return failing }
                return fdatasync(descriptor) == 0 ? 0 : errno
            }
        )
    }

    func fail(with number: Int32) {
        failure.store(number, ordering: .sequentiallyConsistent)
    }

    var now: Int64 { milliseconds.load(ordering: .sequentiallyConsistent) }

    func advance(by amount: Int64) {
        milliseconds.add(amount, ordering: .sequentiallyConsistent)
    }
}
