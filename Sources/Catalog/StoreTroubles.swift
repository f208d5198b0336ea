// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// What has gone wrong in a store and a person should know of, each thing once.
final class StoreTroubles: Sendable {
    private let found = Mutex<[CatalogError]>([])
    private let report: @Sendable (CatalogError) -> Void

    init(_ report: @escaping @Sendable (CatalogError) -> Void = { _ in }) {
        self.report = report
    }

    var all: [CatalogError] { found.withLock { $0 } }

    /// Keeps trouble with the disk or the file; other refusals are their caller's.
    func note(_ error: CatalogError) {
        guard [.full, .disk, .damaged, .readOnly].contains(error.code) else { return }
        let isFirst = found.withLock { found in
            guard !found.contains(error) else { return false }
            if found.count < 16 { found.append(error) }
            return true
        }
        if isFirst { report(error) }
    }

    /// Forgets that the disk was full, after a commit.
    func isWritable(_ path: String) {
        found.withLock { found in found.removeAll { $0.code == .full && $0.path == path } }
    }
}
