// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import Lake

/// Commits for ever and says on standard output what is durable.
enum AcknowledgedWrites {
    static func run(_ lake: Lake, committers: Int) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for committer in 0..<committers {
                group.addTask {
                    var number = 0
                    while true {
                        // Each transaction moves the committer's row on and adds one row elsewhere; both or none must survive.
                        let body = """
                            {"operations":[
                            {"op":"upsert","table":"heads","key":["committer"],"columns":["committer","number"],
                             "rows":[[\(committer),\(number)]]},
                            {"op":"delete","table":"history","columns":["committer","number"],"rows":[[\(committer),\(number)]]},
                            {"op":"upsert","table":"history","key":["committer","number"],
                             "columns":["committer","number","note"],"rows":[[\(committer),\(number),"note \(number)"]]}]}
                            """
                        _ = try await lake.commit(.decode(Array(body.utf8)))
                        let line = Array("ack \(committer) \(number)\n".utf8)
                        guard write(1, line, line.count) == line.count else { exit(0) }
                        number += 1
                    }
                }
            }
            try await group.waitForAll()
        }
    }
}
