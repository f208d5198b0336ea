// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import CDuckDB
internal import Glibc
internal import Synchronization

/// Gives names that DuckDB's catalog does not have the meaning of a query.
///
/// DuckDB asks while it binds a statement, on the thread that binds. What is answered stands in the statement as if it were a view
/// that is made for it alone, so that every statement can see another state of a table.
package protocol NameResolver: Sendable {
    /// The query behind a table's name, or nil for a name it does not know.
    ///
    /// `name` is the last part of what the statement says. Called on the binding thread; must not wait.
    func query(for name: String) throws -> String?
}

extension Database {
    /// Asks `resolver` for every table name the catalog does not have, for as long as the database is open.
    package func resolveNames(with resolver: any NameResolver) {
        let box = Unmanaged.passRetained(ResolverBox(resolver: resolver, library: library))
        addReplacementScan(
            { info, name, context in
                guard let info, let name, let context else { return }
                Unmanaged<ResolverBox>.fromOpaque(context).takeUnretainedValue().resolve(info, String(cString: name))
            },
            box.toOpaque(),
            { context in
                guard let context else { return }
                Unmanaged<ResolverBox>.fromOpaque(context).release()
            }
        )
    }
}

private final class ResolverBox: Sendable {
    private let resolver: any NameResolver
    private let library: DuckDBLibrary

    init(resolver: any NameResolver, library: DuckDBLibrary) {
        self.resolver = resolver
        self.library = library
    }

    func resolve(_ info: duckdb_replacement_scan_info, _ name: String) {
        let api = library.functions
        do {
            guard var sql = try resolver.query(for: name) else { return }
            api.pointee.replacement_scan_set_function_name(info, "query")
            var value = sql.withUTF8 { text in
                text.withMemoryRebound(to: CChar.self) {
                    api.pointee.create_varchar_length($0.baseAddress, idx_t($0.count))
                }
            }
            defer { api.pointee.destroy_value(&value) }
            api.pointee.replacement_scan_add_parameter(info, value)
        } catch {
            api.pointee.replacement_scan_set_error(info, "\(error)")
        }
    }
}
