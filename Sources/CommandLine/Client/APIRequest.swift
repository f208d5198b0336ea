// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore

/// One request to the engine, before anything is sent.
struct APIRequest: Sendable, Equatable {
    /// What goes in the body.
    struct Body: Sendable, Equatable {
        var bytes: [UInt8]
        var contentType: String

        init(bytes: [UInt8], contentType: String) {
            self.bytes = bytes
            self.contentType = contentType
        }

        /// A JSON body.
        static func json(_ value: JSONValue) -> Self {
            Self(bytes: value.bytes, contentType: "application/json")
        }
    }

    var method: String
    /// Path and query, ready to send.
    var target: String
    var body: Body?
    var accept: String
    /// Whether `--verbose` and `--dry-run` must hide the values in the body.
    var isSecret = false

    init(
        _ method: String,
        _ path: [String],
        query: [(String, String?)] = [],
        body: Body? = nil,
        accept: String = "application/json",
        base: String = "/api/v1"
    ) {
        self.method = method
        target = base + path.map { "/" + Self.encode($0) }.joined()
        let pairs = query.compactMap { name, value in value.map { "\(name)=\(Self.encode($0))" } }
        if !pairs.isEmpty { target += "?" + pairs.joined(separator: "&") }
        self.body = body
        self.accept = accept
    }

    /// Percent-encodes everything but the unreserved characters of RFC 3986, and `:`, which resource names are full of.
    private static func encode(_ text: String) -> String {
        var encoded = ""
        for byte in text.utf8 {
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x2E, 0x5F, 0x7E, 0x3A:
                encoded.unicodeScalars.append(Unicode.Scalar(byte))
            default:
                let digits = String(byte, radix: 16, uppercase: true)
                encoded += digits.utf8.count < 2 ? "%0" + digits : "%" + digits
            }
        }
        return encoded == "." || encoded == ".." ? encoded.replacing(".", with: "%2E") : encoded
    }
}
