// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Lets one holder in for each key at a time, the others in the order they came.
actor KeyedGate {
    private var waiting: [String: [CheckedContinuation<Void, Never>]] = [:]

    /// Runs `body` while no other body of the same key runs.
    func run<T: Sendable>(_ key: String, _ body: @Sendable () async throws -> T) async throws -> T {
        await enter(key)
        defer { leave(key) }
        try Task.checkCancellation()
        return try await body()
    }

    private func enter(_ key: String) async {
        if waiting[key] == nil {
            waiting[key] = []
            return
        }
        await withCheckedContinuation { waiting[key, default: []].append($0) }
    }

    private func leave(_ key: String) {
        guard var queue = waiting[key], !queue.isEmpty else {
            waiting[key] = nil
            return
        }
        let next = queue.removeFirst()
        waiting[key] = queue
        next.resume()
    }
}
