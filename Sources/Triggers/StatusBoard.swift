// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Synchronization
package import Views

/// What runs says of itself, for services to show: the status of views and what is wrong with triggers.
package final class StatusBoard: Sendable {
    private struct State {
        var views: [String: ViewStatus] = [:]
        var triggers: [String: String] = [:]
    }

    private let state = Mutex(State())

    /// Makes an empty board.
    package init() {}

    /// The status of a view by its GUID; nil where it is not watched.
    package func view(_ guid: String) -> ViewStatus? {
        state.withLock { $0.views[guid] }
    }

    /// Why a trigger does not deliver; nil where it does.
    package func trigger(_ guid: String) -> String? {
        state.withLock { $0.triggers[guid] }
    }

    func set(view guid: String, _ status: ViewStatus?) {
        state.withLock { $0.views[guid] = status }
    }

    func set(trigger guid: String, reason: String?) {
        state.withLock { $0.triggers[guid] = reason }
    }
}
