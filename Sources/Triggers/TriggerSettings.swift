// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Views

/// How triggers write events.
package struct TriggerSettings: Sendable {
    /// What stands before the colon of types and sources.
    package var authority = "vastdata.com"
    /// The broker's name in subjects.
    package var broker = "martlet"
    /// Where element events say they happened.
    package var region = "local"
    /// How views are watched.
    package var watch = ViewWatchSettings()
    /// Most element changes turned into events and appended together.
    package var changesPerAppendMax = 1000
    /// The wait after a failed append; doubles up to ``retryDelayMax``.
    package var retryDelay: Duration = .milliseconds(100)
    /// The longest wait between attempts to append.
    package var retryDelayMax: Duration = .seconds(5)
    /// How often checkpoints of quiet triggers are moved to the end of their topics.
    package var checkpointInterval: Duration = .seconds(30)
    /// How late a running engine may fire a schedule before the fire counts as missed.
    package var lateFireMax: Duration = .seconds(10)
    /// Most fires made up for one trigger by `missed_fires: all`.
    package var missedFiresMax = 10_000

    /// Makes settings with the defaults.
    package init() {}
}
