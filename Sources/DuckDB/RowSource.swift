// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import CDuckDB

/// Rows in the program's own memory that statements read where they are, without a table of DuckDB's.
///
/// They must not change. Several threads may read them at once, as long as a statement lives that names them.
package protocol RowSource: AnyObject, Sendable {
    /// Names and types of the columns; lists and structures may nest, enumerations, arrays and maps may not be among them.
    var sourceColumns: [LogicalType.Field] { get }
    /// How many rows there are.
    var sourceRowCount: Int { get }

    /// Puts rows of one column into a vector without NULLs; `rows` begins at a multiple of 2,048 and holds at most so many.
    ///
    /// What strings point to must stay where it is as long as the source is there.
    func fill(_ vector: RowVector, column: Int, rows: Range<Int>) throws(DuckDBError)
}

/// Finds the rows that a statement names.
package protocol RowSourceFinder: AnyObject, Sendable {
    /// The sources of a text, to be read one after the other; nil where it names none.
    ///
    /// The columns of each are those that the widest begins with; those it does not have are NULL.
    /// Called while a statement is bound, which keeps them from then on; must not wait.
    func sources(named text: String) -> [any RowSource]?
}

extension Database {
    /// Makes `name('text')` in a statement the rows that `finder` has for the text, as long as the database is open.
    ///
    /// Rows come in their order, from one thread at a time; columns that a statement does not need are not filled.
    /// - Throws: ``DuckDBError`` `catalog` where the name is taken.
    package func readRows(with finder: any RowSourceFinder, as name: String) throws(DuckDBError) {
        let connection = try connect()
        let api = library.functions
        try RowScan.use(library)
        var function = api.pointee.create_table_function()
        defer { api.pointee.destroy_table_function(&function) }
        api.pointee.table_function_set_name(function, name)
        var text = LogicalType.varchar.makeHandle(api)
        api.pointee.table_function_add_parameter(function, text)
        api.pointee.destroy_logical_type(&text)
        api.pointee.table_function_set_extra_info(
            function,
            Unmanaged.passRetained(FinderBox(finder)).toOpaque(),
            { context in
                if let context { Unmanaged<FinderBox>.fromOpaque(context).release() }
            }
        )
        api.pointee.table_function_supports_projection_pushdown(function, true)
        api.pointee.table_function_set_bind(function, { RowScan.bind($0) })
        api.pointee.table_function_set_init(function, { RowScan.start($0) })
        api.pointee.table_function_set_function(function, { RowScan.fill($0, $1) })
        guard api.pointee.register_table_function(connection.handle, function) == 0 else {
            throw DuckDBError(.catalog, "DuckDB does not take the table function \(name).")
        }
    }
}

/// What a C callback can hold a finder by.
final class FinderBox: Sendable {
    let finder: any RowSourceFinder

    init(_ finder: any RowSourceFinder) {
        self.finder = finder
    }
}
