// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import MartletCore
import Synchronization

/// Waits for the batches that the records of one request went into.
final class PublishReceipt: Sendable {
    /// Told once what became of each record.
    typealias Completion = @Sendable ([PublishOutcome]) -> Void

    /// Records of one request in one batch.
    struct Part: Sendable {
        let receipt: PublishReceipt
        /// The place of the partition among those of the request.
        let target: Int32
        /// The records are those of the target between these places.
        let items: Range<Int>
    }

    private struct State {
        var outcomes: [PublishOutcome]
        /// The target of each record; -1 for those that were refused.
        var targets: [Int32]
        var open: Int
    }

    private let state: Mutex<State>
    private let completion: Completion

    /// Waits until ``begin(_:)`` was called for each part and each has ended, and for ``seal()``.
    init(_ count: Int, _ completion: @escaping Completion) {
        state = Mutex(
            State(
                outcomes: Array(repeating: PublishOutcome(), count: count),
                targets: Array(repeating: -1, count: count),
                open: 1
            )
        )
        self.completion = completion
    }

    /// Notes where records go, and so many parts that will end.
    func begin(_ placed: [(item: Int, target: Int32, partition: Int32, delta: Int)], parts: Int) {
        state.withLock { state in
            for one in placed {
                state.targets[one.item] = one.target
                state.outcomes[one.item].partition = one.partition
                state.outcomes[one.item].offset = Int64(one.delta)
            }
            state.open += parts
        }
    }

    /// Notes that a record is refused.
    func refuse(_ item: Int, _ error: ServiceError) {
        state.withLock { $0.outcomes[item].error = error }
    }

    /// Nothing more will begin.
    func seal() { end { _ in } }

    /// A batch is in the log or refused.
    static func end(
        _ part: Part,
        _ result: Result<AppendResult, EventLogError>,
        explain: (EventLogError) -> ServiceError
    ) {
        switch result {
        case .success(let appended):
            part.receipt.end { state in
                for item in part.items where state.targets[item] == part.target {
                    state.outcomes[item].offset += appended.baseOffset
                }
            }
        case .failure(let error):
            let explained = explain(error)
            part.receipt.end { state in
                for item in part.items where state.targets[item] == part.target {
                    state.outcomes[item].error = explained
                }
            }
        }
    }

    private func end(_ change: (inout State) -> Void) {
        let finished = state.withLock { state -> [PublishOutcome]? in
            change(&state)
            state.open -= 1
            return state.open == 0 ? state.outcomes : nil
        }
        if let finished { completion(finished) }
    }
}
