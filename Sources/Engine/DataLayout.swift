// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Glibc
import MartletCore

/// Where things lie below the data directory.
struct DataLayout: Sendable {
    /// Absolute path of the data directory.
    let root: String
    /// Short directory for Unix sockets, whose paths the kernel limits to 107 bytes.
    let sockets: String

    var catalog: String { root + "/catalog.sqlite" }
    var inventory: String { root + "/inventory.sqlite" }
    var secretKey: String { root + "/secret.key" }
    var log: String { root + "/log" }
    var tables: String { root + "/tables" }
    var functions: String { root + "/functions" }
    var temporary: String { root + "/tmp" }
    var gatewaySocket: String { sockets + "/gateway.sock" }

    /// Creates what is missing.
    ///
    /// - Throws: `ServiceError` `.failedPrecondition` where the directory cannot be made or written.
    init(dataDirectory: String) throws {
        let absolute = URL(fileURLWithPath: dataDirectory).standardizedFileURL.path
        if FileManager.default.fileExists(atPath: absolute), !DirectoryStatus.leadsToDirectory(absolute) {
            throw ServiceError(
                .failedPrecondition,
                "the data directory \(absolute) is a file",
                fix: "choose a directory with --data-dir"
            )
        }
        try Self.make(absolute, mode: 0o750)
        guard let resolved = realpath(absolute, nil) else { throw Self.refusal(absolute, errno) }
        root = String(cString: resolved)
        free(resolved)
        guard access(root, W_OK) == 0 else { throw Self.refusal(root, errno) }
        let near = root + "/run"
        if near.utf8.count <= 60 {
            sockets = near
        } else {
            var hash: UInt64 = 0xcbf2_9ce4_8422_2325
            for byte in root.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
            sockets = "/tmp/martlet-\(getuid())-\(String(hash, radix: 16))"
        }
        for directory in [sockets, tables, functions, temporary] {
            try Self.make(directory, mode: 0o700)
        }
        guard DirectoryStatus.isOwnDirectory(sockets) else {
            throw ServiceError(
                .failedPrecondition,
                "\(sockets), where the engine's sockets belong, is not a directory of this user",
                fix: "remove it, or choose a data directory with a shorter path"
            )
        }
        chmod(sockets, 0o700)
    }

    private static func make(_ path: String, mode: mode_t) throws {
        do {
            try FileManager.default.createDirectory(
                atPath: path,
                withIntermediateDirectories: true,
                attributes: [.posixPermissions: Int(mode)]
            )
        } catch {
            let code = errno
            if DirectoryStatus.isDirectory(path) { return }
            throw refusal(path, code)
        }
    }

    private static func refusal(_ path: String, _ code: Int32) -> ServiceError {
        ServiceError(
            .failedPrecondition,
            "the data directory \(path) cannot be used: \(String(cString: strerror(code == 0 ? EACCES : code)))",
            fix: "make it writable for this user, or choose another with --data-dir"
        )
    }
}
