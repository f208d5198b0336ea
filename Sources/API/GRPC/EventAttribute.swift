// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore

/// Why an attribute of an event is refused.
struct AttributeFault: Error {
    let name: String
    let message: String
    let fix: String?

    init(_ name: String, _ message: String, fix: String?) {
        self.name = name
        self.message = message
        self.fix = fix
    }
}

/// The rules of CloudEvents 1.0 for attributes, over their bytes.
enum EventAttribute {
    /// Refuses what is not UTF-8 and characters that no attribute may contain.
    static func checkText(_ bytes: UnsafeRawBufferPointer, _ name: String) throws(AttributeFault) {
        if bytes.allSatisfy({ (0x20...0x7E).contains($0) }) { return }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw AttributeFault(name, "is not UTF-8", fix: nil)
        }
        let isForbidden = text.unicodeScalars.contains { scalar in
            switch scalar.value {
            case 0...0x1F, 0x7F...0x9F, 0xFDD0...0xFDEF: true
            default: scalar.value & 0xFFFE == 0xFFFE
            }
        }
        guard !isForbidden else {
            throw AttributeFault(
                name,
                "contains a character that no attribute may contain",
                fix: "leave out control characters"
            )
        }
    }

    /// Refuses what cannot be a URI reference.
    static func checkURI(_ bytes: UnsafeRawBufferPointer, _ name: String) throws(AttributeFault) {
        let isURI = bytes.allSatisfy { byte in
            switch byte {
            case 0x00...0x20, 0x22, 0x3C, 0x3E, 0x5C, 0x5E, 0x60, 0x7B, 0x7C, 0x7D, 0x7F: false
            default: true
            }
        }
        guard isURI else {
            throw AttributeFault(
                name,
                "'\(text(bytes))' is no URI",
                fix: "percent-encode spaces, quotes and brackets"
            )
        }
    }

    /// Refuses what is not a time of RFC 3339.
    static func checkTime(_ bytes: UnsafeRawBufferPointer) throws(AttributeFault) {
        guard bytes.count <= 64, Timestamp.parseMicroseconds(String(decoding: bytes, as: UTF8.self)) != nil else {
            throw AttributeFault(
                "time",
                "'\(text(bytes))' is no RFC 3339 time",
                fix: "write it like 2026-04-08T15:41:29.591955Z"
            )
        }
    }

    /// Refuses what is not a media type.
    static func checkMediaType(_ bytes: UnsafeRawBufferPointer) throws(AttributeFault) {
        try checkText(bytes, "data_content_type")
        let media = bytes.prefix { $0 != UInt8(ascii: ";") }
        let halves = media.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        guard halves.count == 2, halves.allSatisfy({ !$0.isEmpty }) else {
            throw AttributeFault(
                "data_content_type",
                "'\(text(bytes))' is no media type",
                fix: "write it like application/json"
            )
        }
    }

    /// Refuses names that no extension may have.
    static func checkExtension(_ bytes: UnsafeRawBufferPointer) throws(AttributeFault) {
        let isUsable =
            !bytes.isEmpty && bytes.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x7A).contains($0) }
        let reserved = [
            "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "data",
        ]
        guard isUsable, !reserved.contains(where: { bytes.elementsEqual($0.utf8) }) else {
            throw AttributeFault(
                "extensions",
                "'\(text(bytes))' is not a usable attribute name",
                fix: "use lower-case letters and digits only, and no name of CloudEvents itself"
            )
        }
    }

    private static func text(_ bytes: UnsafeRawBufferPointer) -> String {
        String(decoding: bytes.prefix(60), as: UTF8.self)
    }
}
