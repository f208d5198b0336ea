// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import DuckDB
internal import Glibc
internal import Synchronization

/// What table names mean in one query, beyond the tables DuckDB has itself.
///
/// It lives until the query's last row was read, so that it can hold on to what the rows come from.
package protocol QueryNames: AnyObject, Sendable {
    /// The query behind a table's name, or nil for a name it does not know; the same answer however often it is asked.
    func query(for name: String) throws -> String?
    /// What is wrong with what the query reads, where that is behind an error of DuckDB; nil where it is not.
    ///
    /// Called on the query's thread; may read files.
    func fault(behind error: DuckDBError) -> LakeError?
}

extension QueryNames {
    package func fault(behind error: DuckDBError) -> LakeError? { nil }
}

/// Finds the names of the query that the calling thread runs.
final class ThreadNames: NameResolver {
    private let names = Mutex<[pthread_t: any QueryNames]>([:])

    func query(for name: String) throws -> String? {
        try names.withLock { $0[pthread_self()] }?.query(for: name)
    }

    /// Runs `body` with names of its own for this thread.
    func with<R>(_ own: (any QueryNames)?, _ body: () throws -> R) rethrows -> R {
        guard let own else { return try body() }
        let thread = pthread_self()
        names.withLock { $0[thread] = own }
        defer { names.withLock { $0[thread] = nil } }
        return try body()
    }
}
