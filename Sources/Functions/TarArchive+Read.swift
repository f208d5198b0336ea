// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore

extension TarArchive {
    /// The files of an archive, sorted by path.
    ///
    /// - Throws: `.invalid` naming the entry or the byte at fault, `.tooLarge`.
    package static func read(_ bytes: [UInt8]) throws(ServiceError) -> [File] {
        guard bytes.count <= bytesMax else { throw tooLarge("the archive has \(bytes.count) bytes") }
        var files: [String: File] = [:]
        var directories: Set<String> = []
        var entries = 0
        var longPath: String?
        var offset = 0
        while true {
            guard offset + blockBytes <= bytes.count else { throw damaged("it ends without its end mark", offset) }
            let header = bytes[offset..<(offset + blockBytes)]
            if header.allSatisfy({ $0 == 0 }) { break }
            try checkSum(header)
            let size = try number(header, 124, 12, "size")
            let start = offset + blockBytes
            guard size <= bytes.count - start else { throw damaged("an entry is longer than the archive", offset) }
            let content = bytes[start..<(start + size)]
            entries += 1
            guard entries <= entriesMax else { throw tooLarge("the archive has more than \(entriesMax) entries") }
            let type = header[offset + 156]
            let own = try path(header)
            switch type {
            case 0x78: longPath = try paxPath(content) ?? longPath
            case 0x67: break
            case 0x30, 0x00, 0x35:
                let name = normalised(longPath ?? own)
                longPath = nil
                if type == 0x35 || (type == 0x00 && own.hasSuffix("/")) {
                    guard !name.isEmpty else { break }
                    try checkPath(name)
                    directories.insert(name)
                } else {
                    try checkPath(name)
                    let isExecutable = try number(header, 100, 8, "mode") & 0o100 != 0
                    let file = File(path: name, content: content, isExecutable: isExecutable)
                    guard files.updateValue(file, forKey: name) == nil else {
                        throw damaged("'\(name)' is in it twice", offset)
                    }
                }
            default: throw unusable(type, longPath ?? own)
            }
            offset = start + (size + blockBytes - 1) / blockBytes * blockBytes
        }
        try checkTree(files, directories)
        return files.values.sorted { $0.path.utf8.lexicographicallyPrecedes($1.path.utf8) }
    }

    /// No path may be a file and a directory at once.
    private static func checkTree(_ files: [String: File], _ directories: Set<String>) throws(ServiceError) {
        var above = directories
        for path in files.keys {
            var rest = path[...]
            while let slash = rest.lastIndex(of: "/") {
                rest = rest[..<slash]
                guard above.insert(String(rest)).inserted else { break }
            }
        }
        for path in files.keys where above.contains(path) {
            throw ServiceError(
                .invalid,
                "'\(path)' is a file and a directory in the archive",
                fix: "make the archive again"
            )
        }
    }

    private static func normalised(_ path: String) -> String {
        var path = path[...]
        while path.hasPrefix("./") { path = path.dropFirst(2) }
        while path.hasSuffix("/") { path = path.dropLast() }
        return path == "." ? "" : String(path)
    }

    private static func path(_ header: ArraySlice<UInt8>) throws(ServiceError) -> String {
        let start = header.startIndex
        let isUstar = header[(start + 257)..<(start + 262)].elementsEqual("ustar".utf8)
        let name = try text(header[start..<(start + 100)], start)
        let prefix = isUstar ? try text(header[(start + 345)..<(start + 500)], start) : ""
        return prefix.isEmpty ? name : "\(prefix)/\(name)"
    }

    private static func text(_ field: ArraySlice<UInt8>, _ offset: Int) throws(ServiceError) -> String {
        let bytes = field.prefix { $0 != 0 }
        guard let text = String(validating: bytes, as: UTF8.self) else { throw damaged("a name is not UTF-8", offset) }
        return text
    }

    /// The path in a pax header's records, each "<length> <key>=<value>\n".
    private static func paxPath(_ content: ArraySlice<UInt8>) throws(ServiceError) -> String? {
        var rest = content
        var path: String?
        while !rest.isEmpty {
            let digits = rest.prefix { (0x30...0x39).contains($0) }
            guard digits.count < 10, let length = Int(String(decoding: digits, as: UTF8.self)), length <= rest.count,
                length > digits.count + 1, rest[digits.endIndex] == 0x20, rest[rest.startIndex + length - 1] == 0x0A
            else { throw damaged("a pax header is malformed", content.startIndex) }
            let record = rest[(digits.endIndex + 1)..<(rest.startIndex + length - 1)]
            guard let equals = record.firstIndex(of: 0x3D) else {
                throw damaged("a pax header is malformed", content.startIndex)
            }
            let key = record[..<equals]
            if key.elementsEqual("path".utf8) {
                path = try text(record[(equals + 1)...], content.startIndex)
            } else if key.elementsEqual("size".utf8) {
                throw damaged("it holds an entry of more than 8 GiB", content.startIndex)
            }
            rest = rest.dropFirst(length)
        }
        return path
    }

    private static func number(
        _ header: ArraySlice<UInt8>,
        _ offset: Int,
        _ width: Int,
        _ what: String
    ) throws(ServiceError) -> Int {
        let field = header[(header.startIndex + offset)..<(header.startIndex + offset + width)]
        let digits = field.drop { $0 == 0x20 }.prefix { (0x30...0x37).contains($0) }
        let rest = field[digits.endIndex...]
        guard rest.allSatisfy({ $0 == 0 || $0 == 0x20 }), digits.count <= 12 else {
            throw damaged("an entry's \(what) is no octal number", header.startIndex)
        }
        return digits.reduce(0) { $0 << 3 | Int($1 & 7) }
    }

    private static func checkSum(_ header: ArraySlice<UInt8>) throws(ServiceError) {
        let stored = try number(header, 148, 8, "checksum")
        var sum = 8 * 0x20
        for (index, byte) in header.enumerated() where !(148..<156).contains(index) { sum += Int(byte) }
        guard sum == stored else { throw damaged("a header's checksum is wrong", header.startIndex) }
    }

    private static func unusable(_ type: UInt8, _ path: String) -> ServiceError {
        let what =
            switch type {
            case 0x31: "a hard link"
            case 0x32: "a symbolic link"
            case 0x33, 0x34: "a device"
            case 0x36: "a named pipe"
            default: "an entry of type 0x\(String(type, radix: 16))"
            }
        return ServiceError(
            .invalid,
            "'\(path.prefix(200))' in the archive is \(what)",
            fix: "put plain files and directories into the function's folder"
        )
    }

    private static func damaged(_ what: String, _ offset: Int) -> ServiceError {
        ServiceError(
            .invalid,
            "the archive is damaged at byte \(offset): \(what)",
            fix: "make the archive again (tar --format=ustar)"
        )
    }
}
