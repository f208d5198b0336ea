// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// How a view is watched; the defaults suit local disks.
package struct ViewWatchSettings: Sendable {
    /// How often a view that failed is looked at again.
    package var retryInterval: Duration = .seconds(1)
    /// How often directories that cannot be watched are compared with what is known.
    package var rescanInterval: Duration = .seconds(10)
    /// How long a file must be unchanged where the system cannot tell whether it is still open for writing.
    package var settleTime: Duration = .seconds(2)
    /// How long a new file may stay without being closed after writing before it is looked at.
    package var newFileDelay: Duration = .milliseconds(100)
    /// Most changes that wait to be turned into events; the watcher stops reading beyond that.
    package var pendingChangesMax = 65_536
    /// Most notifications kept while the directory is being scanned; more of them make another scan necessary.
    package var backlogMax = 1_000_000
    /// Most watches, set in tests; nil leaves it to the system.
    package var watchesMax: Int?

    /// Makes settings with the defaults.
    package init() {}
}
