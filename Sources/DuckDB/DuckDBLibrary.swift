// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import CDuckDB
internal import Glibc
internal import Synchronization

/// DuckDB's shared library, loaded into the process at run time and kept until it ends.
package final class DuckDBLibrary: Sendable {
    /// Where the library was found.
    package let path: String
    /// The version the library gives itself, such as `v2.0.0`.
    package let version: String

    // SAFETY: the table is written once by martlet_duckdb_bind before the pointer is stored, never changed and never freed.
    nonisolated(unsafe) private let table: UnsafePointer<martlet_duckdb_api>

    var api: martlet_duckdb_api { table.pointee }
    var functions: UnsafePointer<martlet_duckdb_api> { table }

    private static let loaded = Mutex<[String: DuckDBLibrary]>([:])

    private init(path: String, table: UnsafePointer<martlet_duckdb_api>) {
        self.path = path
        self.table = table
        version = table.pointee.library_version().map { String(cString: $0) } ?? "unknown"
    }

    /// Finds and loads the library: the explicit path alone when there is one, else a system `libduckdb.so`, else the
    /// `duckdb` wheel in the candidate directories.
    ///
    /// A candidate is a virtual environment, a `site-packages` folder or a folder that holds the library itself. A wheel's
    /// module expects a Python interpreter it never calls on this path; ``PythonSymbolStub`` stands in for its symbols.
    /// Blocks for some tens of milliseconds the first time; later calls return the same object.
    /// - Throws: ``DuckDBError`` `libraryNotFound`, naming every place that was tried, or `libraryUnusable`.
    package static func load(explicit: String? = nil, candidates: [String] = []) throws(DuckDBError) -> DuckDBLibrary {
        if let explicit { return try open(explicit) }
        var tried: [String] = []
        for name in ["libduckdb.so"] {
            if let library = try openIfPresent(name) { return library }
            tried.append("the system's \(name)")
        }
        for directory in candidates {
            for path in LibrarySearch.libraries(in: directory) { return try open(path) }
            tried.append("\(directory) (no _duckdb*.so or libduckdb.so)")
        }
        throw DuckDBError(
            .libraryNotFound,
            """
            DuckDB's library was not found. Looked at: \(tried.joined(separator: "; ")). Install it with `pip install duckdb` \
            into the project's virtual environment, or install libduckdb.so, or name its path in the settings.
            """
        )
    }

    private static func openIfPresent(_ name: String) throws(DuckDBError) -> DuckDBLibrary? {
        if let library = loaded.withLock({ $0[name] }) { return library }
        guard let handle = dlopen(name, RTLD_LAZY | RTLD_LOCAL) else { return nil }
        return try bind(handle, path: name)
    }

    private static func open(_ path: String) throws(DuckDBError) -> DuckDBLibrary {
        if let library = loaded.withLock({ $0[path] }) { return library }
        guard access(path, R_OK) == 0 else {
            throw DuckDBError(
                .libraryNotFound,
                "DuckDB's library cannot be read at \(path): \(String(cString: strerror(errno))). Correct the path."
            )
        }
        var handle = dlopen(path, RTLD_LAZY | RTLD_LOCAL)
        if handle == nil {
            let reason = Self.loaderMessage()
            guard try PythonSymbolStub.install(for: path) else {
                throw DuckDBError(.libraryUnusable, "DuckDB's library \(path) cannot be loaded: \(reason)")
            }
            handle = dlopen(path, RTLD_LAZY | RTLD_LOCAL)
        }
        guard let handle else {
            throw DuckDBError(.libraryUnusable, "DuckDB's library \(path) cannot be loaded: \(Self.loaderMessage())")
        }
        return try bind(handle, path: path)
    }

    private static func bind(_ handle: UnsafeMutableRawPointer, path: String) throws(DuckDBError) -> DuckDBLibrary {
        var missing: UnsafePointer<CChar>?
        guard let table = martlet_duckdb_bind(handle, &missing) else {
            let name = missing.map { String(cString: $0) } ?? "a function"
            throw DuckDBError(
                .libraryUnusable,
                "DuckDB's library \(path) lacks \(name). Martlet needs DuckDB 1.4 or later; it is tested with 2.0.0."
            )
        }
        let library = DuckDBLibrary(path: path, table: table)
        return loaded.withLock { loaded in
            if let first = loaded[path] { return first }
            loaded[path] = library
            return library
        }
    }

    private static func loaderMessage() -> String {
        dlerror().map { String(cString: $0) } ?? "no reason given"
    }
}
