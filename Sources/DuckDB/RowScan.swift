// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import CDuckDB
internal import Glibc
internal import Synchronization

/// One statement's reading of row sources: made when the statement is bound, and kept by DuckDB with it.
final class RowScan: Sendable {
    private let sources: [any RowSource]
    /// Where chunks begin: a source, and its first row.
    private let chunks: [(source: Int, rows: Range<Int>)]
    private let rowCount: Int
    private let columnCount: UInt64

    private static let chunkRows = 2048

    private init(_ sources: [any RowSource]) {
        self.sources = sources
        var chunks: [(source: Int, rows: Range<Int>)] = []
        for (index, source) in sources.enumerated() {
            let count = source.sourceRowCount
            for start in stride(from: 0, to: count, by: Self.chunkRows) {
                chunks.append((index, start..<min(start + Self.chunkRows, count)))
            }
        }
        self.chunks = chunks
        rowCount = sources.reduce(0) { $0 + $1.sourceRowCount }
        columnCount = UInt64(sources.map(\.sourceColumns.count).max() ?? 0)
    }

    /// How far an execution of the statement is.
    private final class Progress: Sendable {
        let columns: [UInt64]
        let next = Atomic<Int>(0)

        init(columns: [UInt64]) {
            self.columns = columns
        }
    }

    // MARK: The library

    /// DuckDB's callbacks come without a context, and what they are given can only be read with the library's functions.
    private static let table = Atomic<UInt>(0)

    /// Makes the callbacks use a library's functions.
    static func use(_ library: DuckDBLibrary) throws(DuckDBError) {
        let own = UInt(bitPattern: library.functions)
        let (_, first) = table.compareExchange(expected: 0, desired: own, ordering: .acquiringAndReleasing)
        guard first == 0 || first == own else {
            throw DuckDBError(.libraryUnusable, "Another DuckDB library reads rows of this process already.")
        }
    }

    private static var api: UnsafePointer<martlet_duckdb_api>? {
        UnsafePointer(bitPattern: table.load(ordering: .acquiring))
    }

    // MARK: Callbacks

    static func bind(_ info: duckdb_bind_info?) {
        guard let api, let context = api.pointee.bind_get_extra_info(info) else { return }
        let finder = Unmanaged<FinderBox>.fromOpaque(context).takeUnretainedValue().finder
        var value = api.pointee.bind_get_parameter(info, 0)
        defer { api.pointee.destroy_value(&value) }
        let characters = api.pointee.get_varchar(value)
        defer { api.pointee.free(characters) }
        let text = characters.map { String(cString: $0) } ?? ""
        guard let sources = finder.sources(named: text),
            let widest = sources.max(by: { $0.sourceColumns.count < $1.sourceColumns.count })
        else {
            api.pointee.bind_set_error(info, "there are no rows '\(text)' in memory")
            return
        }
        for column in widest.sourceColumns {
            var type = column.type.makeHandle(api)
            api.pointee.bind_add_result_column(info, column.name, type)
            api.pointee.destroy_logical_type(&type)
        }
        let scan = RowScan(sources)
        api.pointee.bind_set_cardinality(info, idx_t(scan.rowCount), true)
        api.pointee.bind_set_bind_data(
            info,
            Unmanaged.passRetained(scan).toOpaque(),
            { context in
                if let context { Unmanaged<RowScan>.fromOpaque(context).release() }
            }
        )
    }

    static func start(_ info: duckdb_init_info?) {
        guard let api else { return }
        let count = api.pointee.init_get_column_count(info)
        let columns = (0..<count).map { api.pointee.init_get_column_index(info, $0) }
        api.pointee.init_set_max_threads(info, 1)
        api.pointee.init_set_init_data(
            info,
            Unmanaged.passRetained(Progress(columns: columns)).toOpaque(),
            { context in
                if let context { Unmanaged<Progress>.fromOpaque(context).release() }
            }
        )
    }

    static func fill(_ info: duckdb_function_info?, _ output: duckdb_data_chunk?) {
        guard let api, let bound = api.pointee.function_get_bind_data(info),
            let started = api.pointee.function_get_init_data(info)
        else { return }
        let scan = Unmanaged<RowScan>.fromOpaque(bound).takeUnretainedValue()
        let progress = Unmanaged<Progress>.fromOpaque(started).takeUnretainedValue()
        let index = progress.next.add(1, ordering: .relaxed).oldValue
        guard index < scan.chunks.count else {
            api.pointee.data_chunk_set_size(output, 0)
            return
        }
        let chunk = scan.chunks[index]
        let source = scan.sources[chunk.source]
        let vectors = RowVectors(api: api, chunk: output)
        do {
            let count = UInt64(source.sourceColumns.count)
            // A statement that needs no column asks for a row's number, whose index is beyond them all; nobody looks at it.
            for (place, column) in progress.columns.enumerated() where column < scan.columnCount {
                if column < count {
                    try source.fill(vectors[place], column: Int(column), rows: chunk.rows)
                } else {
                    vectors[place].setValidity(nil, wordCount: 0, rowCount: chunk.rows.count)
                }
            }
            api.pointee.data_chunk_set_size(output, idx_t(chunk.rows.count))
        } catch {
            api.pointee.function_set_error(info, error.message)
        }
    }
}

extension LogicalType {
    /// DuckDB's description of the type, to be freed by the caller; null for a type that cannot be made so.
    func makeHandle(_ api: UnsafePointer<martlet_duckdb_api>) -> duckdb_logical_type? {
        switch self {
        case .json:
            let handle = api.pointee.create_logical_type(17)
            api.pointee.logical_type_set_alias(handle, "JSON")
            return handle
        case .decimal(let width, let scale): return api.pointee.create_decimal_type(width, scale)
        case .list(let child):
            var element = child.makeHandle(api)
            defer { api.pointee.destroy_logical_type(&element) }
            return api.pointee.create_list_type(element)
        case .structure(let fields):
            var types = fields.map { $0.type.makeHandle(api) }
            defer { for index in types.indices { api.pointee.destroy_logical_type(&types[index]) } }
            let names = fields.map { strdup($0.name) }
            defer { for name in names { free(name) } }
            var pointers = names.map { UnsafePointer($0) }
            return api.pointee.create_struct_type(&types, &pointers, idx_t(fields.count))
        default:
            guard let number = Self.numbers[self] else { return nil }
            return api.pointee.create_logical_type(number)
        }
    }
}
