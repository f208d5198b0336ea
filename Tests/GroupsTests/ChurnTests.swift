// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Groups
import Testing

@Suite(.timeLimit(.minutes(5)))
struct ChurnTests {
    /// One seed of the operator's, or a few; a failure names its seed.
    static let seeds: [UInt64] =
        ProcessInfo.processInfo.environment["MARTLET_TEST_SEED"].flatMap { UInt64($0) }.map { [$0] }
        ?? Array(1...24) + [UInt64.random(in: 25 ... .max)]

    @Test(arguments: seeds)
    func twentyMembersComeGoAndFail(seed: UInt64) {
        var model = ChurnModel(seed: seed, clients: 20)
        model.churn(steps: 1000)
        model.startAll()
        // The longest anything can take: a session that ends, then a rebalance that waits for somebody, twice.
        for _ in 0..<12 {
            model.run(for: 20_000)
            model.startAll()
        }
        let faults = model.finalFaults()
        #expect(faults.isEmpty, "seed \(seed): \(faults.prefix(5))")
        #expect(model.rebalances > 20, "seed \(seed)")
    }
}
