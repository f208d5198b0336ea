// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// How a view does.
package struct ViewStatus: Sendable, Equatable {
    /// The three states a view can be in.
    package enum State: String, Sendable {
        case scanning
        case ready
        case failed
    }

    /// The state.
    package var state: State
    /// What is wrong and what to do; also set for a view that works with limits.
    package var reason: String?

    /// Makes a status.
    package init(_ state: State, reason: String? = nil) {
        self.state = state
        self.reason = reason
    }
}
