// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Files that have to be looked at again later.
struct DelayedChecks {
    struct Check {
        var node: DirectoryNode
        var name: String
        /// Monotonic nanoseconds.
        var due: Int64
        var attempts: Int
        /// Whether a close after writing made the check necessary.
        var isAfterClose: Bool
    }

    private static let delayMax: Int64 = 1_000_000_000

    private var checks: [String: Check] = [:]
    private(set) var nextDue = Int64.max

    var isEmpty: Bool { checks.isEmpty }

    mutating func add(_ node: DirectoryNode, _ name: String, due: Int64, isAfterClose: Bool = false) {
        checks[node.prefix + name] = Check(node: node, name: name, due: due, attempts: 0, isAfterClose: isAfterClose)
        nextDue = min(nextDue, due)
    }

    /// Puts a check back, later each time.
    mutating func again(_ check: Check, now: Int64) {
        var check = check
        check.attempts += 1
        check.due = now + min(Self.delayMax, 200_000 << Int64(min(check.attempts, 13)))
        checks[check.node.prefix + check.name] = check
        nextDue = min(nextDue, check.due)
    }

    mutating func remove(_ node: DirectoryNode, _ name: String) {
        guard !checks.isEmpty else { return }
        checks.removeValue(forKey: node.prefix + name)
    }

    mutating func removeAll(below prefix: String) {
        checks = checks.filter { !$0.key.hasPrefix(prefix) }
    }

    /// Takes out what is due.
    mutating func takeDue(now: Int64) -> [Check] {
        guard now >= nextDue else { return [] }
        var due: [Check] = []
        nextDue = .max
        for check in checks.values {
            if check.due <= now { due.append(check) } else { nextDue = min(nextDue, check.due) }
        }
        for check in due { checks.removeValue(forKey: check.node.prefix + check.name) }
        return due
    }
}
