// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Foundation

/// Something notable that happened in the engine itself, as a row of `system.engine_events` and a CloudEvent of its topic.
package struct EngineEvent: Sendable, Equatable {
    package var time: Date
    /// The kind of what it happened to, for example `Pipeline` or `Worker`; first half of the event's type.
    package var kind: String
    /// What happened, for example `Deployed` or `Crashed`; second half of the event's type.
    package var action: String
    /// The name of what it happened to.
    package var name: String
    package var severity: Severity
    /// One sentence for people.
    package var message: String
    package var pipeline: String?
    package var function: String?
    /// Further values by name.
    package var details: [String: String]

    package init(
        _ kind: String,
        _ action: String,
        _ name: String,
        severity: Severity = .info,
        _ message: String,
        pipeline: String? = nil,
        function: String? = nil,
        details: [String: String] = [:],
        time: Date = Date()
    ) {
        self.kind = kind
        self.action = action
        self.name = name
        self.severity = severity
        self.message = message
        self.pipeline = pipeline
        self.function = function
        self.details = details
        self.time = time
    }
}
