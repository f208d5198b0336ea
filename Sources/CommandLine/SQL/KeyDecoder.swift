// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// A key as a terminal sends it.
package enum Key: Sendable, Equatable {
    case text(String)
    case enter, tab, backspace, delete
    case left, right, up, down, home, end, wordLeft, wordRight
    /// Ctrl and a letter.
    case control(Character)
    /// Alt and a letter.
    case alt(Character)
    /// Pasted text, which is never a command.
    case paste(String)
}

/// Turns a terminal's bytes into keys; what is incomplete waits for more.
package struct KeyDecoder {
    private var bytes: [UInt8] = []

    /// Makes a decoder that has seen nothing.
    package init() {}

    /// The keys that are whole now.
    package mutating func decode(_ more: some Sequence<UInt8>) -> [Key] {
        bytes += more
        var keys: [Key] = []
        while let (key, count) = next() {
            bytes.removeFirst(count)
            if let key { keys.append(key) }
        }
        return keys
    }

    /// The first key and how many bytes it takes; no key for what means nothing here, nil for what is incomplete.
    private func next() -> (Key?, Int)? {
        guard let first = bytes.first else { return nil }
        switch first {
        case 0x0D, 0x0A: return (.enter, 1)
        case 0x09: return (.tab, 1)
        case 0x08, 0x7F: return (.backspace, 1)
        case 0x1B: return escape()
        case ..<0x20: return (.control(Character(Unicode.Scalar(first + 0x60))), 1)
        default: return text()
        }
    }

    /// As many characters as are whole.
    private func text() -> (Key?, Int)? {
        var count = 0
        while count < bytes.count, bytes[count] >= 0x20, bytes[count] != 0x7F {
            let length = bytes[count] < 0x80 ? 1 : bytes[count] >= 0xF0 ? 4 : bytes[count] >= 0xE0 ? 3 : 2
            guard count + length <= bytes.count else { break }
            count += length
        }
        guard count > 0 else { return nil }
        return (.text(String(decoding: bytes[..<count], as: UTF8.self)), count)
    }

    private func escape() -> (Key?, Int)? {
        guard bytes.count > 1 else { return nil }
        switch bytes[1] {
        case 0x5B: return sequence()
        case 0x4F:
            guard bytes.count > 2 else { return nil }
            return (Self.arrow(bytes[2], isWord: false), 3)
        case 0x7F: return (.alt("\u{7F}"), 2)
        case 0x20..<0x7F: return (.alt(Character(Unicode.Scalar(bytes[1]))), 2)
        default: return (nil, 1)
        }
    }

    /// `ESC [ parameters final` (ECMA-48).
    private func sequence() -> (Key?, Int)? {
        guard let end = bytes[2...].firstIndex(where: { (0x40...0x7E).contains($0) }) else { return nil }
        let parameters = String(decoding: bytes[2..<end], as: UTF8.self)
        guard bytes[end] == 0x7E else {
            return (Self.arrow(bytes[end], isWord: parameters.hasPrefix("1;")), end + 1)
        }
        switch parameters {
        case "1", "7": return (.home, end + 1)
        case "4", "8": return (.end, end + 1)
        case "3": return (.delete, end + 1)
        case "200":
            guard let close = bytes[(end + 1)...].firstRange(of: Array("\u{1B}[201~".utf8)) else { return nil }
            let text = String(decoding: bytes[(end + 1)..<close.lowerBound], as: UTF8.self)
            return (.paste(text), close.upperBound)
        default: return (nil, end + 1)
        }
    }

    private static func arrow(_ byte: UInt8, isWord: Bool) -> Key? {
        switch byte {
        case 0x41: .up
        case 0x42: .down
        case 0x43: isWord ? .wordRight : .right
        case 0x44: isWord ? .wordLeft : .left
        case 0x48: .home
        case 0x46: .end
        default: nil
        }
    }
}
