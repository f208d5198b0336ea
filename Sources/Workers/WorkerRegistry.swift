// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// The workers that may call the gateway, by id.
package final class WorkerRegistry: Sendable {
    /// Whom a worker works for; what it sends is filed under these names.
    package struct Context: Sendable, Equatable {
        package var pipeline: String
        package var deployment: String
        package var function: String
        package var revision: Int

        package init(pipeline: String, deployment: String, function: String, revision: Int) {
            self.pipeline = pipeline
            self.deployment = deployment
            self.function = function
            self.revision = revision
        }
    }

    private let workers = Mutex<[String: (worker: Worker, context: Context)]>([:])

    package init() {}

    /// Lets a worker call the gateway, on behalf of what `context` says.
    package func add(_ worker: Worker, context: Context) {
        workers.withLock { $0[worker.spec.id] = (worker, context) }
    }

    /// Ends a worker's access to the gateway.
    package func remove(_ worker: Worker) {
        workers.withLock { $0[worker.spec.id] = nil }
    }

    /// The worker with this id, if `token` is its token; compared in constant time.
    package func authenticate(id: String, token: String) -> (worker: Worker, context: Context)? {
        guard let found = workers.withLock({ $0[id] }) else { return nil }
        let expected = Array(found.worker.spec.token.utf8)
        let given = Array(token.utf8)
        guard expected.count == given.count else { return nil }
        var difference: UInt8 = 0
        for (left, right) in zip(expected, given) { difference |= left ^ right }
        return difference == 0 ? found : nil
    }
}
