// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import Catalog

/// What a column's values are kept as.
enum ColumnKind: UInt8 {
    case boolean, bigint, double, varchar, json, hugeint, decimal, date, timestamp
    /// A name that only NULLs were seen under: no column yet.
    case unused
    /// A name that is no column, because the table leaves out what it does not know.
    case ignored

    /// Bytes a value takes; decimals take what their width needs.
    var stride: Int {
        switch self {
        case .boolean: 1
        case .date: 4
        case .bigint, .double, .timestamp: 8
        case .varchar, .json, .hugeint, .decimal: 16
        case .unused, .ignored: 0
        }
    }
}

/// One column while rows are filled in, or a name that is none.
struct ColumnState {
    var kind: ColumnKind
    var isDeclared: Bool
    var hasLargeIntegers: Bool
    var width: UInt8 = 0
    var scale: UInt8 = 0
    /// The record that last had this name.
    var stamp = 0
    /// Where it stands among the table's columns; -1 for a name that is none.
    var place: Int
    var memory: ColumnMemory

    init(_ kind: ColumnKind, place: Int = -1) {
        self.kind = kind
        self.place = place
        isDeclared = false
        hasLargeIntegers = false
        memory = ColumnMemory(stride: kind.stride)
    }

    /// Nil when the type is none that tables have.
    init?(_ column: AppendTableSchemaVersion.Column, place: Int) {
        let type = column.type.uppercased()
        var width: UInt8 = 0
        var scale: UInt8 = 0
        let kind: ColumnKind
        switch type {
        case "BOOLEAN": kind = .boolean
        case "BIGINT": kind = .bigint
        case "DOUBLE": kind = .double
        case "VARCHAR": kind = .varchar
        case "JSON": kind = .json
        case "HUGEINT": kind = .hugeint
        case "DATE": kind = .date
        case "TIMESTAMP": kind = .timestamp
        default:
            guard type.hasPrefix("DECIMAL("), type.hasSuffix(")") else { return nil }
            let numbers = type.dropFirst(8).dropLast().split(separator: ",").map { text in
                UInt8(text.filter { $0 != " " })
            }
            guard numbers.count == 2, let first = numbers[0], let second = numbers[1], (1...38).contains(first),
                second <= first
            else { return nil }
            (kind, width, scale) = (.decimal, first, second)
        }
        self.kind = kind
        self.width = width
        self.scale = scale
        self.place = place
        isDeclared = column.isDeclared
        hasLargeIntegers = column.hasLargeIntegers
        let stride =
            switch (kind, width) {
            case (.decimal, ...4): 2
            case (.decimal, ...9): 4
            case (.decimal, ...18): 8
            default: kind.stride
            }
        memory = ColumnMemory(stride: stride)
    }
}
