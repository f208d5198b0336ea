// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Synchronization

/// Ctrl-C as a flag to look at, while a statement runs that it should stop instead of the program.
enum InterruptFlag {
    private static let raised = Atomic<Bool>(false)

    /// Whether Ctrl-C was pressed since ``with(_:)`` began.
    static var isRaised: Bool { raised.load(ordering: .relaxed) }

    /// Runs `body` while SIGINT raises the flag, and then has it do what it did before.
    static func with<R>(_ body: () async throws -> R) async throws -> R {
        raised.store(false, ordering: .relaxed)
        let previous = signal(SIGINT) { _ in InterruptFlag.raise() }
        defer { signal(SIGINT, previous) }
        return try await body()
    }

    private static func raise() { raised.store(true, ordering: .relaxed) }
}
