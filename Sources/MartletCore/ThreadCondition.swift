// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// A mutex with a condition variable, for threads that may block.
///
/// Times are nanoseconds of the clock that only goes forward.
// SAFETY: the two objects are made in init, freed in deinit and only passed to pthread functions, which are thread-safe.
package final class ThreadCondition: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    /// Makes an unlocked mutex nobody waits on.
    package init() {
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        mutex.initialize(to: pthread_mutex_t())
        condition.initialize(to: pthread_cond_t())
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    /// Runs `body` with the mutex locked.
    package func withLock<R>(_ body: () throws -> R) rethrows -> R {
        lock()
        defer { unlock() }
        return try body()
    }

    /// Locks the mutex, for a thread that has to let go of it in between; else use ``withLock(_:)``.
    package func lock() { pthread_mutex_lock(mutex) }

    /// Unlocks the mutex.
    package func unlock() { pthread_mutex_unlock(mutex) }

    /// Waits for a signal; call with the mutex locked, and check the state again afterwards.
    package func wait() {
        pthread_cond_wait(condition, mutex)
    }

    /// Waits for a signal for at most some nanoseconds; false when the time is over.
    package func wait(nanoseconds: Int64) -> Bool {
        wait(until: Self.now() + UInt64(max(0, nanoseconds)))
    }

    /// Waits for a signal until a time of ``now()``; false when it is over.
    @discardableResult
    package func wait(until deadline: UInt64) -> Bool {
        var time = timespec()
        time.tv_sec = Int(deadline / 1_000_000_000)
        time.tv_nsec = Int(deadline % 1_000_000_000)
        return pthread_cond_timedwait(condition, mutex, &time) == 0
    }

    /// The time that ``wait(until:)`` compares with.
    package static func now() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    /// Wakes one waiting thread; call with the mutex locked.
    package func signal() {
        pthread_cond_signal(condition)
    }

    /// Wakes all waiting threads; call with the mutex locked.
    package func broadcast() {
        pthread_cond_broadcast(condition)
    }
}
