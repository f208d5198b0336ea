// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// A watched directory, recursive.
package struct ViewSpec: ResourceSpec, Equatable {
    package static let kind = ResourceKind.views

    /// Absolute path of the directory.
    package var path: String
    /// `ready`, `scanning` or `failed`, as the watcher last reported.
    package var status: String
    package var reason: String?

    package init(path: String, status: String = "ready", reason: String? = nil) {
        self.path = path
        self.status = status
        self.reason = reason
    }
}
