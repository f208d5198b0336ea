// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Addresses of clients, each written in one way only.
package enum ClientAddress {
    /// The longest text of an address.
    private static let textBytesMax = 45
    /// What stands in front of an IPv4 address that a socket for both versions of IP shows.
    private static let mapping: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]

    /// An address as it is compared and shown: IPv6 in small letters and as short as it goes, IPv4 inside of IPv6 as IPv4.
    ///
    /// - Returns: nil where the text is no address; names and zones (`%eth0`) are none.
    package static func normalised(_ text: String) -> String? { bytes(text).flatMap(Self.text) }

    /// What counts as one place: an IPv4 address, or the 64 bits of IPv6 that one client usually has all of.
    ///
    /// A text that is no address is returned as it is.
    package static func network(_ text: String) -> String {
        guard let bytes = bytes(text) else { return text }
        let isLong = bytes.count > 4
        return Self.text(isLong ? bytes.prefix(8) + [UInt8](repeating: 0, count: 8) : bytes) ?? text
    }

    /// 4 bytes or 16, in the order of the network.
    private static func bytes(_ text: String) -> [UInt8]? {
        // C ends a text at a zero byte, behind which anything could stand.
        guard text.utf8.count <= textBytesMax, !text.utf8.contains(0) else { return nil }
        var bytes = [UInt8](repeating: 0, count: 16)
        if inet_pton(AF_INET, text, &bytes) == 1 { return Array(bytes.prefix(4)) }
        guard inet_pton(AF_INET6, text, &bytes) == 1 else { return nil }
        return bytes.starts(with: mapping) ? Array(bytes.suffix(4)) : bytes
    }

    private static func text(_ bytes: [UInt8]) -> String? {
        var text = [CChar](repeating: 0, count: textBytesMax + 1)
        let family = bytes.count == 4 ? AF_INET : AF_INET6
        guard inet_ntop(family, bytes, &text, socklen_t(text.count)) != nil else { return nil }
        return String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}
