// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Crypto
import Foundation
import MartletCore

/// The key under which secret values are sealed, kept in a file of its own.
package struct SecretKey: Sendable {
    private static let heading = "martlet-secret-key-v1\n"

    let key: SymmetricKey
    /// Names the key without telling anything about it.
    let fingerprint: String

    private init(bytes: [UInt8]) {
        key = SymmetricKey(data: bytes)
        let code = HMAC<SHA256>.authenticationCode(for: Array("martlet secret key fingerprint".utf8), using: key)
        fingerprint = code.prefix(8).map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
    }

    /// Reads the key file, or makes it where there is none and `mayCreate` is set; durable on return.
    ///
    /// - Throws: `ServiceError` `.failedPrecondition` where the file is absent, unreadable, open to others or not a key.
    package static func load(path: String, mayCreate: Bool) throws -> SecretKey {
        if let key = try read(path) { return key }
        guard mayCreate else {
            throw ServiceError(
                .failedPrecondition,
                "\(path): the key file is missing, and there are secrets sealed under it",
                fix:
                    "restore the file from a backup of the data directory; without it delete the secrets and create them again"
            )
        }
        try create(path)
        guard let key = try read(path) else { throw unusable(path, "it vanished after it was made") }
        return key
    }

    private static func read(_ path: String) throws -> SecretKey? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard descriptor >= 0 else {
            let code = errno
            if code == ENOENT { return nil }
            throw unusable(path, code == ELOOP ? "it is a symbolic link" : String(cString: strerror(code)))
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw unusable(path, String(cString: strerror(errno))) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw unusable(path, "it is not a regular file") }
        guard status.st_mode & 0o077 == 0 else {
            throw ServiceError(
                .failedPrecondition,
                "\(path): other users can reach the key file (mode \(String(status.st_mode & 0o777, radix: 8)))",
                fix: "chmod 600 \(path)"
            )
        }
        var buffer = [UInt8](repeating: 0, count: 256)
        let count = Foundation.read(descriptor, &buffer, buffer.count)
        guard count >= 0 else { throw unusable(path, String(cString: strerror(errno))) }
        let text = String(decoding: buffer[..<count], as: UTF8.self)
        guard text.hasPrefix(heading), text.hasSuffix("\n"),
            let bytes = Data(base64Encoded: String(text.dropFirst(heading.count).dropLast())), bytes.count == 32
        else { throw unusable(path, "its content is not a key") }
        return SecretKey(bytes: Array(bytes))
    }

    /// Writes a whole file beside the place and links it there, so that a crash leaves a whole key or none.
    private static func create(_ path: String) throws {
        let temporary = "\(path).\(UUID().uuidString.lowercased()).tmp"
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw unusable(path, "it cannot be made: \(String(cString: strerror(errno)))") }
        defer { unlink(temporary) }
        var generator = SystemRandomNumberGenerator()
        let bytes = (0..<32).map { _ in UInt8.random(in: 0...255, using: &generator) }
        let content = Array((heading + Data(bytes).base64EncodedString() + "\n").utf8)
        let written = write(descriptor, content, content.count)
        let isFlushed = written == content.count && fsync(descriptor) == 0
        let code = errno
        close(descriptor)
        guard isFlushed else { throw unusable(path, "it cannot be written: \(String(cString: strerror(code)))") }
        guard link(temporary, path) == 0 || errno == EEXIST else {
            throw unusable(path, "it cannot be made: \(String(cString: strerror(errno)))")
        }
        let directory = open((path as NSString).deletingLastPathComponent, O_RDONLY | O_DIRECTORY)
        guard directory >= 0 else { return }
        fsync(directory)
        close(directory)
    }

    private static func unusable(_ path: String, _ reason: String) -> ServiceError {
        ServiceError(
            .failedPrecondition,
            "\(path): the key file cannot be used: \(reason)",
            fix: "restore the file from a backup of the data directory, readable by the user that runs Martlet only"
        )
    }
}
