// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import GRPCAPI

/// What is unusual about a request's bytes, so that it is known where two readers may differ; what cannot be read ends the walk.
struct WireOddities {
    /// Groups and numbers beyond 64 bits, of which SwiftProtobuf passes over the former and cuts the latter, and names of topics that are
    /// too long for one.
    private(set) var isRefusedByUs = false
    /// Field numbers that there cannot be: no harm where unknown fields are passed over.
    private(set) var isRefusedByPeer = false
    /// SwiftProtobuf reads on in the middle of the value where the key or value of a map's entry has another wire type.
    private(set) var isMisreadByPeer = false
    /// SwiftProtobuf merges a message that is given twice.
    private(set) var repeatsSingleEvent = false
    /// An extension stands there twice, which no client writes.
    private(set) var repeatsExtension = false

    private enum Kind { case request, event, extensionEntry, header }

    private let shape: PublishDeserializer.Shape
    private var singleEvents = 0
    private var names: Set<[UInt8]> = []

    init(_ bytes: [UInt8], _ shape: PublishDeserializer.Shape) {
        self.shape = shape
        walk(bytes[...], .request)
        repeatsSingleEvent = shape == .one && singleEvents > 1
        isRefusedByPeer = isRefusedByPeer || isMisreadByPeer
    }

    private mutating func walk(_ bytes: ArraySlice<UInt8>, _ kind: Kind) {
        var rest = bytes
        var name: [UInt8] = []
        while !rest.isEmpty {
            let before = rest.count
            guard let tag = number(&rest) else { return }
            if before - rest.count > 5 || tag >= UInt64(UInt32.max) { isRefusedByPeer = true }
            let field = tag >> 3
            if kind == .extensionEntry, field == 1 || field == 2, tag & 7 != 2 { isMisreadByPeer = true }
            switch tag & 7 {
            case 0: if number(&rest) == nil { return }
            case 1: rest = rest.dropFirst(8)
            case 2:
                guard let length = number(&rest), length <= UInt64(rest.count) else { return }
                let value = rest.prefix(Int(length))
                rest = rest.dropFirst(Int(length))
                if kind == .extensionEntry, field == 1 { name = Array(value) }
                descend(into: value, field, kind)
            case 3, 4:
                isRefusedByUs = true
                return
            case 5: rest = rest.dropFirst(4)
            default: return
            }
        }
        if kind == .extensionEntry { repeatsExtension = !names.insert(name).inserted || repeatsExtension }
    }

    private mutating func descend(into value: ArraySlice<UInt8>, _ field: UInt64, _ kind: Kind) {
        switch (kind, field) {
        case (.request, shape == .stream ? 2 : 1): isRefusedByUs = isRefusedByUs || value.count > 249
        case (.request, shape == .stream ? 3 : 2):
            singleEvents += 1
            names = []
            walk(value, .event)
        case (.event, 8): walk(value, .extensionEntry)
        case (.event, 9): walk(value, .header)
        default: break
        }
    }

    private mutating func number(_ rest: inout ArraySlice<UInt8>) -> UInt64? {
        var value: UInt64 = 0
        for place in 0..<10 {
            guard let byte = rest.popFirst() else { return nil }
            if place == 9, byte & 0x7F > 1 { isRefusedByUs = true }
            value |= UInt64(byte & 0x7F) << UInt64(7 * place)
            if byte & 0x80 == 0 { return value }
        }
        return nil
    }
}
