// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore

/// A tar archive of plain files, as `functions build` sends a function's folder (POSIX ustar, with pax records for long names).
///
/// Writing is deterministic: entries in byte order of their paths, no times, owners or other modes than 0644 and 0755.
/// Reading is strict: only files and directories, only relative paths without `..`, everything bounded and checksummed.
package enum TarArchive {
    /// One file.
    package struct File: Sendable, Equatable {
        /// Relative path with `/` between its parts.
        package var path: String
        /// What it contains.
        package var content: ArraySlice<UInt8>
        /// Whether it may be executed.
        package var isExecutable: Bool

        /// Makes a file.
        package init(path: String, content: some Sequence<UInt8>, isExecutable: Bool = false) {
            self.path = path
            self.content = (content as? ArraySlice<UInt8>) ?? Array(content)[...]
            self.isExecutable = isExecutable
        }
    }

    /// Largest archive and largest sum of files, in bytes.
    package static let bytesMax = 512 << 20
    /// Most entries, directories included.
    package static let entriesMax = 20_000
    /// Longest path, in bytes.
    package static let pathBytesMax = 1024

    static let blockBytes = 512

    // MARK: Writing

    /// The archive of files.
    ///
    /// - Throws: `.invalid` for a path that could not be read back, `.tooLarge`.
    package static func write(_ files: [File]) throws(ServiceError) -> [UInt8] {
        let sorted = files.sorted { $0.path.utf8.lexicographicallyPrecedes($1.path.utf8) }
        var total = 0
        for file in sorted {
            try checkPath(file.path)
            total += file.content.count + 3 * blockBytes
        }
        guard files.count <= entriesMax, total <= bytesMax else {
            throw tooLarge("the folder has \(files.count) files with \(total) bytes")
        }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(total + 2 * blockBytes)
        for file in sorted {
            var name = Array(file.path.utf8)
            var prefix: [UInt8] = []
            if let split = split(name) {
                (prefix, name) = split
            } else {
                append(pax("path", file.path), name: Array("pax/\(bytes.count)".utf8), type: 0x78, to: &bytes)
                name = Array(name.suffix(100))
            }
            append(file.content, name: name, prefix: prefix, isExecutable: file.isExecutable, to: &bytes)
        }
        bytes.append(contentsOf: repeatElement(0, count: 2 * blockBytes))
        return bytes
    }

    /// The parts of a name for the header's two fields, or nil where it does not fit.
    private static func split(_ name: [UInt8]) -> (prefix: [UInt8], name: [UInt8])? {
        if name.count <= 100 { return ([], name) }
        for index in name.indices where name[index] == 0x2F && index <= 155 && name.count - index - 1 <= 100 {
            return (Array(name[..<index]), Array(name[(index + 1)...]))
        }
        return nil
    }

    private static func pax(_ key: String, _ value: String) -> [UInt8] {
        let body = " \(key)=\(value)\n"
        var length = body.utf8.count
        while String(length).utf8.count + body.utf8.count != length {
            length = String(length).utf8.count + body.utf8.count
        }
        return Array("\(length)\(body)".utf8)
    }

    private static func append(
        _ content: some Collection<UInt8>,
        name: [UInt8],
        prefix: [UInt8] = [],
        type: UInt8 = 0x30,
        isExecutable: Bool = false,
        to bytes: inout [UInt8]
    ) {
        var header = [UInt8](repeating: 0, count: blockBytes)
        func put(_ text: some Collection<UInt8>, at offset: Int) {
            for (index, byte) in text.enumerated() { header[offset + index] = byte }
        }
        func octal(_ value: Int, width: Int) -> [UInt8] {
            let digits = String(value, radix: 8)
            return Array((String(repeating: "0", count: width - digits.count) + digits).utf8)
        }
        put(name, at: 0)
        put(octal(isExecutable ? 0o755 : 0o644, width: 7), at: 100)
        put(octal(0, width: 7), at: 108)
        put(octal(0, width: 7), at: 116)
        put(octal(content.count, width: 11), at: 124)
        put(octal(0, width: 11), at: 136)
        put(repeatElement(0x20, count: 8).map { UInt8($0) }, at: 148)
        header[156] = type
        put(Array("ustar".utf8) + [0, 0x30, 0x30], at: 257)
        put(prefix, at: 345)
        let sum = header.reduce(0) { $0 + Int($1) }
        put(octal(sum, width: 6) + [0, 0x20], at: 148)
        bytes.append(contentsOf: header)
        bytes.append(contentsOf: content)
        let rest = content.count % blockBytes
        if rest > 0 { bytes.append(contentsOf: repeatElement(0, count: blockBytes - rest)) }
    }

    // MARK: What both ways refuse

    /// Refuses every path that could leave the folder it is unpacked in or that could not be a file's.
    package static func checkPath(_ path: String) throws(ServiceError) {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        let isSound =
            !path.isEmpty && path.utf8.count <= pathBytesMax && !path.hasPrefix("/") && !path.utf8.contains(0)
            && parts.allSatisfy { !$0.isEmpty && $0 != "." && $0 != ".." && $0.utf8.count <= 255 }
        guard isSound else {
            throw ServiceError(
                .invalid,
                "the archive has an entry with the path '\(path.prefix(200))'",
                fix: "use relative paths of at most \(pathBytesMax) bytes, without '..' and empty parts"
            )
        }
    }

    static func tooLarge(_ what: String) -> ServiceError {
        ServiceError(
            .tooLarge,
            "\(what); a function may have \(entriesMax) files and \(bytesMax >> 20) MiB",
            fix: "leave data out of the function's folder and read it from a view"
        )
    }
}
