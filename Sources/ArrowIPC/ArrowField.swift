// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// A column of an Arrow schema, or a part of one.
package struct ArrowField: Sendable, Hashable {
    /// The type of a column; those with children say which (Arrow, "Columnar format").
    package enum Kind: Sendable, Hashable {
        /// Unit of times and timestamps.
        package enum Unit: Int16, Sendable {
            case second, millisecond, microsecond, nanosecond
        }

        case null
        case bool
        case integer(bits: Int32, isSigned: Bool)
        case float
        case double
        case utf8
        case binary
        case fixedSizeBinary(width: Int32)
        /// `bits` is 128 or 256.
        case decimal(precision: Int32, scale: Int32, bits: Int32)
        /// Days since 1970-01-01 in 32 bits.
        case date
        /// Microseconds since midnight in 64 bits.
        case time
        case timestamp(unit: Unit, zone: String?)
        /// Months and days in 32 bits each, then nanoseconds in 64.
        case interval
        /// One child: the element.
        case list
        /// One child: the element.
        case fixedSizeList(size: Int32)
        case structure
        /// One child: a structure of key and value.
        case map
    }

    /// The column's name.
    package var name: String
    /// The column's type.
    package var kind: Kind
    /// Whether there may be nulls.
    package var isNullable: Bool
    /// What nested types are made of.
    package var children: [ArrowField]
    /// Canonical extension type that gives the values their meaning, for example `arrow.uuid`.
    package var extensionName: String?

    /// Makes a field.
    package init(
        _ name: String,
        _ kind: Kind,
        isNullable: Bool = true,
        children: [ArrowField] = [],
        extensionName: String? = nil
    ) {
        self.name = name
        self.kind = kind
        self.isNullable = isNullable
        self.children = children
        self.extensionName = extensionName
    }

    /// `Field` of Arrow's Schema.fbs.
    var flat: FlatTable {
        let (number, type) = kind.flat
        var metadata: [FlatTable] = []
        if let extensionName {
            metadata = [
                FlatTable(fields: [.string("ARROW:extension:name"), .string(extensionName)]),
                FlatTable(fields: [.string("ARROW:extension:metadata"), .string("")]),
            ]
        }
        return FlatTable(fields: [
            .string(name), .byte(isNullable ? 1 : 0), .byte(number), .table(FlatTable(fields: type)), nil,
            .tables(children.map(\.flat)), metadata.isEmpty ? nil : .tables(metadata),
        ])
    }
}

extension ArrowField.Kind {
    /// Number in the union `Type` of Schema.fbs, and the fields of that table.
    fileprivate var flat: (UInt8, [FlatTable.Field?]) {
        switch self {
        case .null: (1, [])
        case .integer(let bits, let isSigned): (2, [.int(bits), .byte(isSigned ? 1 : 0)])
        case .float: (3, [.short(1)])
        case .double: (3, [.short(2)])
        case .binary: (4, [])
        case .utf8: (5, [])
        case .bool: (6, [])
        case .decimal(let precision, let scale, let bits): (7, [.int(precision), .int(scale), .int(bits)])
        case .date: (8, [.short(0)])
        case .time: (9, [.short(Unit.microsecond.rawValue), .int(64)])
        case .timestamp(let unit, let zone): (10, [.short(unit.rawValue), zone.map { .string($0) }])
        case .interval: (11, [.short(2)])
        case .list: (12, [])
        case .structure: (13, [])
        case .fixedSizeBinary(let width): (15, [.int(width)])
        case .fixedSizeList(let size): (16, [.int(size)])
        case .map: (17, [.byte(0)])
        }
    }
}
