// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Who a client turned out to be.
package struct Principal: Sendable, Hashable {
    /// Whoever did not say who they are.
    package static let anonymous = Principal(name: "ANONYMOUS")

    /// The name without its kind.
    package let name: String
    /// Whether it may read and nothing else, whatever rules allow.
    package let isReadOnly: Bool
    /// Whether it may do everything, whatever rules deny.
    package let isSuper: Bool

    /// Names somebody.
    package init(name: String, isReadOnly: Bool = false, isSuper: Bool = false) {
        self.name = name
        self.isReadOnly = isReadOnly
        self.isSuper = isSuper
    }

    /// As rules have it: `User:NAME`.
    package var text: String { "User:\(name)" }
}
