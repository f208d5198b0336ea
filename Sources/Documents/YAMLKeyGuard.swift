// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore

/// Refuses texts whose keys could be aliases, before they are composed.
///
/// Yams 6.2.2 hashes every key, and a key that is a nested alias makes that hashing exponential. The scan is lexical: it refuses a
/// text that has an anchor, an alias and a key that is an alias or a collection, which no configuration file needs.
enum YAMLKeyGuard {
    static func check(_ bytes: [UInt8]) throws(ServiceError) {
        guard bytes.contains(0x26), bytes.contains(0x2A) else { return }
        var hasAnchor = false
        var hasAlias = false
        var complexKeyLine: Int?
        var line = 1
        for (index, byte) in bytes.enumerated() {
            switch byte {
            case 0x0A: line += 1
            case 0x26 where startsToken(bytes, index): hasAnchor = true
            case 0x2A where startsToken(bytes, index):
                hasAlias = true
                let end = bytes[(index + 1)...].firstIndex { !isAnchorByte($0) } ?? bytes.count
                if complexKeyLine == nil, colonFollows(bytes, end) { complexKeyLine = line }
            case 0x3F where complexKeyLine == nil && startsToken(bytes, index):
                let next = index + 1 < bytes.count ? bytes[index + 1] : 0x0A
                if isSpace(next) || next == 0x2A || next == 0x5B || next == 0x7B { complexKeyLine = line }
            case 0x5D, 0x7D:
                if complexKeyLine == nil, colonFollows(bytes, index + 1) { complexKeyLine = line }
            default: break
            }
        }
        guard hasAnchor, hasAlias, let complexKeyLine else { return }
        throw .malformed(
            "a key that is an alias, a list or a mapping is not read in a document with anchors",
            line: complexKeyLine,
            fix: "write the key as plain text"
        )
    }

    private static func startsToken(_ bytes: [UInt8], _ index: Int) -> Bool {
        guard index > 0 else { return true }
        let before = bytes[index - 1]
        return isSpace(before) || before == 0x5B || before == 0x7B || before == 0x2C || before == 0x3A || before == 0x22
            || before == 0x27 || before >= 0x80
    }

    private static func colonFollows(_ bytes: [UInt8], _ start: Int) -> Bool {
        var index = start
        while index < bytes.count, bytes[index] == 0x20 || bytes[index] == 0x09 { index += 1 }
        return index < bytes.count && bytes[index] == 0x3A
    }

    private static func isAnchorByte(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte) || byte == 0x2D
            || byte == 0x5F
    }

    private static func isSpace(_ byte: UInt8) -> Bool {
        byte == 0x20 || byte == 0x09 || byte == 0x0A || byte == 0x0D
    }
}
