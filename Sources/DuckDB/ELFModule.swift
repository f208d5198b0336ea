// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// The undefined dynamic symbols of a 64-bit little-endian ELF file, read through its section headers.
struct ELFModule {
    let machine: UInt16
    let undefinedSymbols: [String]

    init(path: String) throws(DuckDBError) {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else {
            throw DuckDBError(.libraryUnusable, "\(path) cannot be read: \(String(cString: strerror(errno)))")
        }
        defer { close(file) }
        let header = try Self.read(file, at: 0, count: 64, path)
        guard header.starts(with: [0x7F, 0x45, 0x4C, 0x46, 2, 1]) else {
            throw DuckDBError(.libraryUnusable, "\(path) is not a 64-bit little-endian ELF library.")
        }
        machine = header.load(18)
        let sectionsOffset: UInt64 = header.load(40)
        let sectionSize = Int(header.load(58) as UInt16)
        let sectionCount = Int(header.load(60) as UInt16)
        guard sectionSize == 64, sectionCount > 0 else { throw Self.malformed(path) }
        let sections = try Self.read(file, at: sectionsOffset, count: sectionSize * sectionCount, path)
        for index in 0..<sectionCount where sections.load(index * 64 + 4) as UInt32 == 11 {  // SHT_DYNSYM
            let link = Int(sections.load(index * 64 + 40) as UInt32)
            guard link < sectionCount else { throw Self.malformed(path) }
            let symbols = try Self.section(index, of: sections, file, path)
            let strings = try Self.section(link, of: sections, file, path)
            undefinedSymbols = try Self.undefined(symbols, strings, path)
            return
        }
        throw Self.malformed(path)
    }

    private static func undefined(_ symbols: [UInt8], _ strings: [UInt8], _ path: String) throws(DuckDBError)
        -> [String]
    {
        var names: [String] = []
        for offset in stride(from: 24, to: symbols.count - 23, by: 24) where symbols.load(offset + 6) as UInt16 == 0 {
            let start = Int(symbols.load(offset) as UInt32)
            guard start < strings.count, let end = strings[start...].firstIndex(of: 0) else { throw malformed(path) }
            names.append(String(decoding: strings[start..<end], as: UTF8.self))
        }
        return names
    }

    private static func section(_ index: Int, of sections: [UInt8], _ file: CInt, _ path: String) throws(DuckDBError)
        -> [UInt8]
    {
        let offset: UInt64 = sections.load(index * 64 + 24)
        let size: UInt64 = sections.load(index * 64 + 32)
        return try read(file, at: offset, count: Int(clamping: size), path)
    }

    private static func read(_ file: CInt, at offset: UInt64, count: Int, _ path: String) throws(DuckDBError) -> [UInt8]
    {
        guard count <= 64 << 20, let position = off_t(exactly: offset) else { throw malformed(path) }
        var done = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            while done < count {
                let part = UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[done...])
                let got = pread(file, part.baseAddress, part.count, position + off_t(done))
                guard got > 0 else { break }
                done += got
            }
            initialized = done
        }
        guard done == count else { throw malformed(path) }
        return bytes
    }

    private static func malformed(_ path: String) -> DuckDBError {
        DuckDBError(.libraryUnusable, "\(path) is not a complete ELF library.")
    }
}

extension [UInt8] {
    fileprivate func load<T: FixedWidthInteger>(_ offset: Int) -> T {
        precondition(
            offset >= 0 && offset + MemoryLayout<T>.size <= count,
            "ELFModule: offset outside of what was read"
        )
        return withUnsafeBytes { T(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: T.self)) }
    }
}
