// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import ArrowIPC
internal import CDuckDB

extension LogicalType {
    /// The type as a field of an Arrow schema; a type that cannot be read is a column of nulls until a value is met.
    package func arrowField(_ name: String, isNullable: Bool = true) -> ArrowField {
        func field(_ kind: ArrowField.Kind, _ children: [ArrowField] = []) -> ArrowField {
            ArrowField(name, kind, isNullable: isNullable, children: children)
        }
        switch self {
        case .boolean: return field(.bool)
        case .tinyint: return field(.integer(bits: 8, isSigned: true))
        case .smallint: return field(.integer(bits: 16, isSigned: true))
        case .integer: return field(.integer(bits: 32, isSigned: true))
        case .bigint: return field(.integer(bits: 64, isSigned: true))
        case .utinyint: return field(.integer(bits: 8, isSigned: false))
        case .usmallint: return field(.integer(bits: 16, isSigned: false))
        case .uinteger: return field(.integer(bits: 32, isSigned: false))
        case .ubigint: return field(.integer(bits: 64, isSigned: false))
        case .hugeint: return field(.decimal(precision: 38, scale: 0, bits: 128))
        case .uhugeint: return field(.decimal(precision: 39, scale: 0, bits: 256))
        case .float: return field(.float)
        case .double: return field(.double)
        case .decimal(let width, let scale):
            return field(.decimal(precision: Int32(width), scale: Int32(scale), bits: 128))
        case .varchar, .json, .enumeration: return field(.utf8)
        case .blob: return field(.binary)
        case .uuid:
            var uuid = field(.fixedSizeBinary(width: 16))
            uuid.extensionName = "arrow.uuid"
            return uuid
        case .date: return field(.date)
        case .time: return field(.time)
        case .timestamp: return field(.timestamp(unit: .microsecond, zone: nil))
        case .timestampSeconds: return field(.timestamp(unit: .second, zone: nil))
        case .timestampMilliseconds: return field(.timestamp(unit: .millisecond, zone: nil))
        case .timestampNanoseconds: return field(.timestamp(unit: .nanosecond, zone: nil))
        case .timestampTZ: return field(.timestamp(unit: .microsecond, zone: "UTC"))
        case .interval: return field(.interval)
        case .list(let child): return field(.list, [child.arrowField("item")])
        case .array(let child, let size): return field(.fixedSizeList(size: Int32(size)), [child.arrowField("item")])
        case .structure(let fields): return field(.structure, fields.map { $0.type.arrowField($0.name) })
        case .map(let key, let value):
            let entries = [key.arrowField("key", isNullable: false), value.arrowField("value")]
            return field(.map, [ArrowField("entries", .structure, isNullable: false, children: entries)])
        case .sqlNull, .other: return field(.null)
        }
    }
}

extension DataChunk {
    /// Some of the rows as Arrow arrays, one a column, in the layout of ``LogicalType/arrowField(_:isNullable:)``.
    ///
    /// - Throws: ``DuckDBError`` `unsupportedType` naming the column.
    package func arrow(_ rows: Range<Int>) throws(DuckDBError) -> [ArrowArray] {
        defer { withExtendedLifetime(self) {} }
        var arrays: [ArrowArray] = []
        arrays.reserveCapacity(columns.count)
        for index in columns.indices {
            do {
                arrays.append(try reader(index).arrow(.range(rows)))
            } catch {
                throw unreadable(column: index, error)
            }
        }
        return arrays
    }
}

/// Which entries of a vector are wanted, in order.
enum RowSelection {
    case range(Range<Int>)
    case indices([Int])

    var count: Int {
        switch self {
        case .range(let range): range.count
        case .indices(let indices): indices.count
        }
    }

    func forEach<E>(_ body: (Int) throws(E) -> Void) throws(E) {
        switch self {
        case .range(let range): for index in range { try body(index) }
        case .indices(let indices): for index in indices { try body(index) }
        }
    }
}

extension VectorReader {
    func arrow(_ rows: RowSelection) throws(UnreadableType) -> ArrowArray {
        let (validity, nullCount) = self.validity(rows)
        func fixed(_ data: [UInt8]) -> ArrowArray {
            ArrowArray(count: rows.count, nullCount: nullCount, buffers: [validity, data])
        }
        switch type {
        case .boolean: return fixed(bits(rows))
        case .tinyint, .utinyint: return fixed(copy(rows, width: 1))
        case .smallint, .usmallint: return fixed(copy(rows, width: 2))
        case .integer, .uinteger, .float, .date: return fixed(copy(rows, width: 4))
        case .bigint, .ubigint, .double, .time, .timestamp, .timestampSeconds, .timestampMilliseconds,
            .timestampNanoseconds, .timestampTZ:
            return fixed(copy(rows, width: 8))
        case .hugeint: return fixed(copy(rows, width: 16))
        case .uhugeint:
            return fixed(
                map(rows) { row in
                    (self.load(row * 2, as: UInt64.self), self.load(row * 2 + 1, as: UInt64.self), UInt64(0), UInt64(0))
                }
            )
        case .decimal(let width, _):
            return fixed(width > 18 ? copy(rows, width: 16) : map(rows) { self.unscaled($0, width: width) })
        case .uuid: return fixed(map(rows) { (self.wide($0) ^ .min).bigEndian })
        case .interval: return fixed(map(rows) { self.interval($0) })
        case .varchar, .json, .blob:
            return try strings(rows, validity, nullCount) { row, append in self.withBytes(row, append) }
        case .enumeration(let names):
            let texts = names.map { Array($0.utf8) }
            return try strings(rows, validity, nullCount) { row, append in
                texts[self.enumerationIndex(row, count: names.count)].withUnsafeBytes(append)
            }
        case .structure(let fields):
            var children: [ArrowArray] = []
            for (index, field) in fields.enumerated() {
                let child = api.pointee.struct_vector_get_child(vector, idx_t(index))
                children.append(try VectorReader(api: api, vector: child, type: field.type).arrow(rows))
            }
            return ArrowArray(count: rows.count, nullCount: nullCount, buffers: [validity], children: children)
        case .array(let child, let size):
            var indices: [Int] = []
            indices.reserveCapacity(rows.count * size)
            rows.forEach { row in indices.append(contentsOf: row * size..<(row + 1) * size) }
            let reader = VectorReader(api: api, vector: api.pointee.array_vector_get_child(vector), type: child)
            return ArrowArray(
                count: rows.count,
                nullCount: nullCount,
                buffers: [validity],
                children: [try reader.arrow(.indices(indices))]
            )
        case .list(let child): return try list(rows, validity, nullCount, child)
        case .map(let key, let value):
            let entry = LogicalType.structure([.init(name: "key", type: key), .init(name: "value", type: value)])
            return try list(rows, validity, nullCount, entry)
        case .sqlNull: return ArrowArray(count: rows.count, nullCount: rows.count, buffers: [])
        case .other:
            guard nullCount == rows.count else { throw UnreadableType(type: type) }
            return ArrowArray(count: rows.count, nullCount: rows.count, buffers: [])
        }
    }

    /// One bit a row, set where there is a value; no bytes where every row has one.
    private func validity(_ rows: RowSelection) -> ([UInt8], Int) {
        var mask = [UInt8](repeating: 0, count: (rows.count + 7) / 8)
        var nulls = 0
        var place = 0
        guard hasValidity else { return ([], 0) }
        rows.forEach { row in
            if isNull(row) { nulls += 1 } else { mask[place >> 3] |= 1 << UInt8(place & 7) }
            place += 1
        }
        return nulls == 0 ? ([], 0) : (mask, nulls)
    }

    /// The values as they are, and zeros below a null: what DuckDB has there is undefined and must not become part of an answer.
    private func copy(_ rows: RowSelection, width: Int) -> [UInt8] {
        guard let data = base, rows.count > 0 else { return [] }
        return [UInt8](unsafeUninitializedCapacity: rows.count * width) { target, count in
            guard let start = UnsafeMutableRawPointer(target.baseAddress) else { return }
            switch rows {
            case .range(let range):
                start.copyMemory(from: data + range.lowerBound * width, byteCount: range.count * width)
            case .indices(let indices):
                for (place, index) in indices.enumerated() {
                    (start + place * width).copyMemory(from: data + index * width, byteCount: width)
                }
            }
            count = rows.count * width
            guard hasValidity else { return }
            var place = start
            rows.forEach { row in
                if isNull(row) { place.initializeMemory(as: UInt8.self, repeating: 0, count: width) }
                place += width
            }
        }
    }

    private func map<T: BitwiseCopyable>(_ rows: RowSelection, _ value: (Int) -> T) -> [UInt8] {
        let width = MemoryLayout<T>.stride
        guard rows.count > 0 else { return [] }
        return [UInt8](unsafeUninitializedCapacity: rows.count * width) { target, count in
            guard let start = UnsafeMutableRawPointer(target.baseAddress) else { return }
            rows.forEach { row in
                if isNull(row) {
                    (start + count).initializeMemory(as: UInt8.self, repeating: 0, count: width)
                } else {
                    (start + count).storeBytes(of: value(row), as: T.self)
                }
                count += width
            }
        }
    }

    /// One bit a row from one byte a row.
    private func bits(_ rows: RowSelection) -> [UInt8] {
        var bits = [UInt8](repeating: 0, count: (rows.count + 7) / 8)
        var place = 0
        rows.forEach { row in
            if !isNull(row), load(row, as: UInt8.self) != 0 { bits[place >> 3] |= 1 << UInt8(place & 7) }
            place += 1
        }
        return bits
    }

    /// Months, days and nanoseconds; times beyond 292 years are cut there.
    private func interval(_ row: Int) -> (Int32, Int32, Int64) {
        let micros: Int64 = load(row * 2 + 1)
        let (nanos, isOverflow) = micros.multipliedReportingOverflow(by: 1000)
        return (load(row * 4), load(row * 4 + 1), isOverflow ? (micros < 0 ? .min : .max) : nanos)
    }

    private func strings(
        _ rows: RowSelection,
        _ validity: [UInt8],
        _ nullCount: Int,
        _ body: (Int, (UnsafeRawBufferPointer) -> Void) -> Void
    ) throws(UnreadableType) -> ArrowArray {
        var bytes: [UInt8] = []
        var ends: [Int32] = [0]
        ends.reserveCapacity(rows.count + 1)
        var isTooLong = false
        rows.forEach { row in
            if !isNull(row) { body(row) { bytes.append(contentsOf: $0) } }
            if bytes.count > Int32.max { isTooLong = true }
            ends.append(Int32(truncatingIfNeeded: bytes.count))
        }
        if isTooLong { throw UnreadableType(type: type) }
        return ArrowArray(count: rows.count, nullCount: nullCount, buffers: [validity, Self.bytes(ends), bytes])
    }

    private func list(
        _ rows: RowSelection,
        _ validity: [UInt8],
        _ nullCount: Int,
        _ child: LogicalType
    ) throws(UnreadableType) -> ArrowArray {
        var indices: [Int] = []
        var ends: [Int32] = [0]
        ends.reserveCapacity(rows.count + 1)
        rows.forEach { row in
            if !isNull(row) {
                let entry = load(row, as: duckdb_list_entry.self)
                indices.append(contentsOf: Int(entry.offset)..<Int(entry.offset + entry.length))
            }
            ends.append(Int32(truncatingIfNeeded: indices.count))
        }
        let reader = VectorReader(api: api, vector: api.pointee.list_vector_get_child(vector), type: child)
        return ArrowArray(
            count: rows.count,
            nullCount: nullCount,
            buffers: [validity, Self.bytes(ends)],
            children: [try reader.arrow(.indices(indices))]
        )
    }

    private static func bytes(_ numbers: [Int32]) -> [UInt8] { numbers.withUnsafeBytes { Array($0) } }
}
