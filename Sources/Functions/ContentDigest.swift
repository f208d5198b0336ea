// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Crypto

/// A SHA-256 over named parts, each with its length, so that no two different lists of parts have the same bytes.
struct ContentDigest {
    private var hash = SHA256()

    init(_ format: String) {
        add(format.utf8.map(\.self))
    }

    mutating func add(_ text: String) {
        add(Array(text.utf8))
    }

    mutating func add(_ bytes: some Collection<UInt8>) {
        var length = UInt64(bytes.count).littleEndian
        withUnsafeBytes(of: &length) { hash.update(bufferPointer: $0) }
        let isContiguous: Void? = bytes.withContiguousStorageIfAvailable {
            hash.update(bufferPointer: UnsafeRawBufferPointer($0))
        }
        if isContiguous == nil { hash.update(data: Array(bytes)) }
    }

    mutating func add(_ file: TarArchive.File) {
        add(file.path)
        add(file.isExecutable ? "x" : "-")
        add(file.content)
    }

    /// Lower-case hex.
    func text() -> String {
        hash.finalize().map { byte in
            let digits = String(byte, radix: 16)
            return digits.count < 2 ? "0" + digits : digits
        }.joined()
    }
}
