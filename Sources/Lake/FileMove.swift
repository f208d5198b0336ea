// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// Puts a finished file in its place.
enum FileMove {
    /// Makes the file at `source` durable under the name `destination`, replacing what is there; copies between file systems.
    static func move(_ source: String, to destination: String) throws {
        try sync(source)
        if rename(source, destination) == 0 {
            try syncFolder(of: destination)
            return
        }
        guard errno == EXDEV else { throw failure("rename", destination) }
        let part = destination + ".part"
        do {
            try copy(source, to: part)
            try sync(part)
            guard rename(part, destination) == 0 else { throw failure("rename", destination) }
        } catch {
            unlink(part)
            throw error
        }
        try syncFolder(of: destination)
    }

    private static func copy(_ source: String, to destination: String) throws {
        let input = open(source, O_RDONLY | O_CLOEXEC)
        guard input >= 0 else { throw failure("open", source) }
        defer { Glibc.close(input) }
        let output = open(destination, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard output >= 0 else { throw failure("open", destination) }
        defer { Glibc.close(output) }
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        while true {
            let count = read(input, &buffer, buffer.count)
            guard count >= 0 else { throw failure("read", source) }
            if count == 0 { return }
            var written = 0
            while written < count {
                let part = buffer[written..<count].withUnsafeBytes { write(output, $0.baseAddress, $0.count) }
                guard part > 0 else { throw failure("write", destination) }
                written += part
            }
        }
    }

    private static func sync(_ path: String) throws {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw failure("open", path) }
        defer { Glibc.close(file) }
        guard fsync(file) == 0 else { throw failure("fsync", path) }
    }

    private static func syncFolder(of path: String) throws {
        let folder = path.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
        try sync(folder.isEmpty ? (path.hasPrefix("/") ? "/" : ".") : folder)
    }

    private static func failure(_ call: String, _ path: String) -> LakeError {
        LakeError(.unavailable, "The file \(path) cannot be written: \(call): \(String(cString: strerror(errno)))")
    }
}
