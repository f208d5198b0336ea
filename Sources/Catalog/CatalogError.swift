// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore

/// Why a store of the catalog could not be opened or used.
package struct CatalogError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What kind of failure.
    package enum Code: Sendable, CaseIterable {
        /// The directory is missing.
        case noDirectory
        /// The directory or the file cannot be written.
        case readOnly
        /// The file is no SQLite database or its content is damaged.
        case damaged
        /// The file was written by a newer Martlet.
        case newerSchema
        /// Another process holds the file.
        case busy
        /// The disk is full.
        case full
        /// The store was closed.
        case closed
        /// The disk failed to read, write or flush.
        case disk
        /// SQLite failed in another way.
        case failed
    }

    /// What kind of failure.
    package let code: Code
    /// The file it concerns.
    package let path: String
    /// What happened.
    package let message: String
    /// What to do about it.
    package let fix: String

    /// The file, what happened and what to do.
    package var description: String { "\(path): \(message)\n  \(fix)" }

    /// The form in which services report it.
    package var serviceError: ServiceError {
        let code: ServiceError.Code =
            switch self.code {
            case .noDirectory, .readOnly, .newerSchema: .failedPrecondition
            case .busy, .closed: .unavailable
            case .full: .storageFull
            case .damaged, .disk: .storageFailed
            case .failed: .internal
            }
        return ServiceError(code, "\(path): \(message)", fix: fix)
    }
}
