// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Foundation

/// A file in a view.
package struct Element: Sendable, Codable, Equatable {
    /// Path below the view, with `/`.
    package var key: String
    package var sizeBytes: Int64
    package var modifiedAt: Date
    package var tags: [String: String]

    package init(key: String, sizeBytes: Int64, modifiedAt: Date, tags: [String: String]) {
        self.key = key
        self.sizeBytes = sizeBytes
        self.modifiedAt = modifiedAt
        self.tags = tags
    }
}

/// Views and the elements in them.
package protocol ViewServices: ResourceService<ViewSpec> {
    /// Elements in key order; `prefix` is exact on the key.
    func elements(_ view: String, prefix: String, limit: Int, cursor: String?) async throws -> Page<Element>
    /// Sets tags (`user.` extended attributes); keys not named stay.
    func tag(_ view: String, key: String, tags: [String: String]) async throws -> Element
    func untag(_ view: String, key: String, names: [String]) async throws -> Element
}

/// Triggers and when they fire next.
package protocol TriggerServices: ResourceService<TriggerSpec> {
    /// The next fire times of a schedule trigger, at most `count`; empty for element triggers.
    func nextFireTimes(_ id: String, count: Int) async throws -> [Date]
}
