// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MartletCore

/// Which state of append tables a query reads.
struct FreshnessOptions: ParsableArguments {
    @Option(
        name: .long,
        help: "Read a table as it was: NAME=COMMIT or NAME=TIME (RFC 3339); repeatable.",
        completion: .custom(ResourceNames.complete("tables"))
    )
    var asOf: [String] = []
    @Option(
        name: .long,
        help: "Leave out rows that are not committed yet where the last commit is no older than this, such as 1m."
    )
    var maxStaleness: String?

    init() {}

    /// Adds what was given to the fields of a query.
    func set(in fields: inout JSONObject) throws {
        let tables = try FieldBuilder.pairs(asOf, option: "--as-of", session: nil)
        if !tables.isEmpty { fields["as_of"] = .object(tables) }
        guard let maxStaleness else { return }
        guard let micros = TimeSpan.microseconds(maxStaleness), micros % 1_000_000 == 0 else {
            throw CommandFailure.usage(
                "--max-staleness '\(maxStaleness)' is no span of whole seconds",
                fix: "write it like 30s, 5m or 1h"
            )
        }
        fields["max_staleness_seconds"] = .int(micros / 1_000_000)
    }
}
