// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore

/// Topics that the engine keeps for itself: they may be read over Kafka and HTTP, and nothing else.
package enum EngineTopic {
    /// What their names begin with.
    package static let prefix = "__"
    /// Topics of the tables `system.…`.
    private static let systemPrefix = "__system."

    /// Whether a topic of this name is, or would be, the engine's own.
    package static func isOne(_ name: String) -> Bool { name.hasPrefix(prefix) }

    /// Refuses records for the engine's own topics.
    ///
    /// - Throws: `ServiceError` `.forbidden`.
    package static func refuseRecords(_ name: String) throws(ServiceError) {
        guard isOne(name) else { return }
        throw ServiceError(
            .forbidden,
            "topic '\(name.prefix(260))' is the engine's own: it can be read, not written",
            fix: "write to a topic whose name does not begin with '\(prefix)'"
        )
    }

    /// Refuses to make, change or delete the engine's own topics, and says what is set elsewhere.
    ///
    /// - Throws: `ServiceError` `.forbidden`.
    package static func refuseChanges(_ name: String) throws(ServiceError) {
        guard isOne(name) else { return }
        let fix =
            name.hasPrefix(systemPrefix)
            ? "how long its records stay is a setting of its table: martlet tables update "
                + "system.\(name.dropFirst(systemPrefix.count).prefix(130)) --retention 7d"
            : "choose a topic whose name does not begin with '\(prefix)'"
        throw ServiceError(.forbidden, "topic '\(name.prefix(260))' is the engine's own", fix: fix)
    }
}
