// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import CDuckDB
internal import Glibc

/// Stands in for the Python symbols that the `duckdb` wheel's module refers to and DuckDB's C API never uses.
///
/// The wheel's module holds the whole of DuckDB and exports its C API, but the loader refuses it unless the data symbols
/// of a Python interpreter (`PyExc_ValueError`, `_Py_NoneStruct`, …) exist. The stub reads which `Py…` and `_Py…` symbols
/// that very module leaves undefined, writes a shared object into memory that defines each as zeroes, and opens it with
/// global visibility. No linker setting, Python installation or list of names is needed, whatever the wheel's version.
enum PythonSymbolStub {
    /// Makes the Python symbols of the module at `path` known to the loader; false when it lacks none.
    static func install(for path: String) throws(DuckDBError) -> Bool {
        let module = try ELFModule(path: path)
        let names = module.undefinedSymbols.filter { $0.hasPrefix("Py") || $0.hasPrefix("_Py") }
        guard !names.isEmpty else { return false }
        let image = image(defining: names, machine: module.machine)
        let file = martlet_memfd_create("martlet-python-symbols")
        guard file >= 0 else { throw failure("memfd_create") }
        defer { close(file) }
        var written = 0
        while written < image.count {
            let count = image[written...].withUnsafeBytes { write(file, $0.baseAddress, $0.count) }
            guard count > 0 else { throw failure("write") }
            written += count
        }
        guard dlopen("/proc/self/fd/\(file)", RTLD_NOW | RTLD_GLOBAL) != nil else {
            let reason = dlerror().map { String(cString: $0) } ?? "no reason given"
            throw DuckDBError(.libraryUnusable, "The stand-in for Python's symbols cannot be loaded: \(reason)")
        }
        return true
    }

    private static func failure(_ call: String) -> DuckDBError {
        let reason = String(cString: strerror(errno))
        return DuckDBError(.libraryUnusable, "The stand-in for Python's symbols cannot be made: \(call): \(reason)")
    }

    /// How many zero bytes each symbol names: more than any object of Python's that is reached by symbol.
    private static let symbolSize: UInt64 = 1024
    private static let bucketCount: UInt32 = 509

    /// An ELF shared object (System V ABI, "Object Files") of one writable segment that defines `names` in its zeroed tail.
    static func image(defining names: [String], machine: UInt16) -> [UInt8] {
        let headerSize = 64 + 3 * 56
        let symbolsOffset = (headerSize + 15) & ~15
        let symbolsSize = 24 * (names.count + 1)
        let hashOffset = symbolsOffset + symbolsSize
        let hashSize = 4 * (2 + Int(bucketCount) + names.count + 1)
        let stringsOffset = hashOffset + hashSize
        var strings: [UInt8] = [0]
        var nameOffsets: [UInt32] = []
        for name in names {
            nameOffsets.append(UInt32(strings.count))
            strings.append(contentsOf: name.utf8)
            strings.append(0)
        }
        let dynamicOffset = (stringsOffset + strings.count + 15) & ~15
        let dynamicSize = 16 * 6
        let fileSize = dynamicOffset + dynamicSize
        let zeroes = UInt64((fileSize + 0xFFFF) & ~0xFFFF)
        let memorySize = zeroes + UInt64(names.count) * symbolSize

        var image = LittleEndianBuffer()
        image.append(bytes: [0x7F, 0x45, 0x4C, 0x46, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        image.append(UInt16(3))  // ET_DYN
        image.append(machine)
        image.append(UInt32(1))
        image.append(UInt64(0))
        image.append(UInt64(64))  // program headers
        image.append(UInt64(0))
        image.append(UInt32(0))
        for value in [64, 56, 3, 64, 0, 0] as [UInt16] { image.append(value) }
        let readWrite: UInt32 = 6
        image.appendProgramHeader(
            type: 1,
            flags: readWrite,
            offset: 0,
            file: fileSize,
            memory: memorySize,
            align: 0x10000
        )
        image.appendProgramHeader(
            type: 2,
            flags: readWrite,
            offset: dynamicOffset,
            file: dynamicSize,
            memory: UInt64(dynamicSize),
            align: 8
        )
        image.appendProgramHeader(type: 0x6474_E551, flags: readWrite, offset: 0, file: 0, memory: 0, align: 16)
        image.pad(to: symbolsOffset)
        image.append(bytes: [UInt8](repeating: 0, count: 24))
        for (index, offset) in nameOffsets.enumerated() {
            image.append(offset)
            image.append(bytes: [0x11, 0])  // a global object with default visibility
            image.append(UInt16(1))
            image.append(zeroes + UInt64(index) * symbolSize)
            image.append(symbolSize)
        }
        for word in hashTable(names) { image.append(word) }
        image.append(bytes: strings)
        image.pad(to: dynamicOffset)
        for (tag, value) in [
            (4, hashOffset), (5, stringsOffset), (6, symbolsOffset), (10, strings.count), (11, 24), (0, 0),
        ] {
            image.append(UInt64(tag))
            image.append(UInt64(value))
        }
        return image.bytes
    }

    /// The DT_HASH table: bucket count, chain count, buckets, chains; symbol 0 is the undefined one.
    private static func hashTable(_ names: [String]) -> [UInt32] {
        var buckets = [UInt32](repeating: 0, count: Int(bucketCount))
        var chains = [UInt32](repeating: 0, count: names.count + 1)
        for (index, name) in names.enumerated() {
            let bucket = Int(hash(name) % bucketCount)
            chains[index + 1] = buckets[bucket]
            buckets[bucket] = UInt32(index + 1)
        }
        return [bucketCount, UInt32(chains.count)] + buckets + chains
    }

    /// The System V ABI's symbol hash.
    static func hash(_ name: String) -> UInt32 {
        var hash: UInt32 = 0
        for byte in name.utf8 {
            hash = (hash << 4) &+ UInt32(byte)
            let high = hash & 0xF000_0000
            hash = (hash ^ (high >> 24)) & ~high
        }
        return hash
    }
}

private struct LittleEndianBuffer {
    var bytes: [UInt8] = []

    mutating func append(_ value: some FixedWidthInteger) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    mutating func append(bytes more: [UInt8]) {
        bytes.append(contentsOf: more)
    }

    mutating func pad(to size: Int) {
        bytes.append(contentsOf: repeatElement(0, count: size - bytes.count))
    }

    mutating func appendProgramHeader(
        type: UInt32,
        flags: UInt32,
        offset: Int,
        file: Int,
        memory: UInt64,
        align: UInt64
    ) {
        append(type)
        append(flags)
        for _ in 0..<3 { append(UInt64(offset)) }
        append(UInt64(file))
        append(memory)
        append(align)
    }
}
