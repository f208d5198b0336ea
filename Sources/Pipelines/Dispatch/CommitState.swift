// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore

/// What a deployment keeps beside a committed offset, so that a restart or a redeploy neither repeats what is done nor forgets retries.
package struct CommitState: Equatable, Sendable {
    /// A record that failed and waits for its next attempt.
    package struct Retry: Equatable, Sendable {
        package var offset: Int64
        package var attempts: Int
        package var dueMicros: Int64

        /// Makes the entry of one record.
        package init(offset: Int64, attempts: Int, dueMicros: Int64) {
            self.offset = offset
            self.attempts = attempts
            self.dueMicros = dueMicros
        }
    }

    /// Ranges kept; beyond it a restart repeats some events, which at-least-once delivery allows.
    static let rangesMax = 4096

    /// Offsets done beyond the committed one.
    package var finished: [Range<Int64>] = []
    package var retries: [Retry] = []

    /// Makes a state; empty without arguments.
    package init(finished: [Range<Int64>] = [], retries: [Retry] = []) {
        self.finished = finished
        self.retries = retries
    }

    /// The part within `offsets`; what a foreign consumer left may claim anything.
    package func clipped(to offsets: Range<Int64>) -> CommitState {
        CommitState(
            finished: finished.map { $0.clamped(to: offsets) }.filter { !$0.isEmpty },
            retries: retries.filter { offsets.contains($0.offset) && (0...1000).contains($0.attempts) }
        )
    }

    /// Reads ``metadata``; text of another kind counts as empty, since a plain consumer may have committed.
    package init(metadata: String) {
        guard !metadata.isEmpty, let value = try? JSONValue(parsing: metadata) else { return }
        for pair in value["done"]?.arrayValue ?? [] {
            guard let items = pair.arrayValue, items.count == 2, let start = items[0].intValue,
                let end = items[1].intValue,
                start < end
            else { continue }
            finished.append(start..<end)
        }
        for item in value["retries"]?.arrayValue ?? [] {
            guard let items = item.arrayValue, items.count == 3, let offset = items[0].intValue,
                let attempts = items[1].intValue, let due = items[2].intValue
            else { continue }
            retries.append(Retry(offset: offset, attempts: Int(attempts), dueMicros: due))
        }
    }

    /// JSON: `{"done":[[start,end],…],"retries":[[offset,attempts,due µs],…]}`; empty where there is nothing to keep.
    package var metadata: String {
        guard !finished.isEmpty || !retries.isEmpty else { return "" }
        let done = finished.prefix(Self.rangesMax).map { JSONValue.array([.int($0.lowerBound), .int($0.upperBound)]) }
        let waiting = retries.prefix(Self.rangesMax).map {
            JSONValue.array([.int($0.offset), .int(Int64($0.attempts)), .int($0.dueMicros)])
        }
        return JSONValue.object(
            JSONObject(members: [
                .init(key: "done", value: .array(Array(done))), .init(key: "retries", value: .array(Array(waiting))),
            ])
        ).text
    }
}
