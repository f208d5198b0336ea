// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import EventLog

extension EventLogError {
    /// Whether what could not be read at an offset will never be.
    ///
    /// It is damaged, which reading has reported, or deleted, since the partition begins behind it. `start` is where it begins; nil where
    /// that is not known.
    package func isGone(_ offset: Int64, start: Int64?) -> Bool {
        switch code {
        case .damaged: true
        case .offsetOutOfRange: start.map { offset < $0 } ?? false
        default: false
        }
    }
}
