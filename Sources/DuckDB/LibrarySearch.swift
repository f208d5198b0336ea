// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// Where a DuckDB library may lie below a directory.
enum LibrarySearch {
    /// The libraries below a virtual environment, a `site-packages` folder or a plain folder, best first.
    static func libraries(in directory: String) -> [String] {
        var folders = [directory]
        for library in ["lib", "lib64"] {
            for python in names(in: "\(directory)/\(library)") where python.hasPrefix("python") {
                folders.append("\(directory)/\(library)/\(python)/site-packages")
            }
        }
        return folders.flatMap { folder in
            names(in: folder).filter { isLibrary($0) }.map { "\(folder)/\($0)" }
        }
    }

    private static func isLibrary(_ name: String) -> Bool {
        name == "libduckdb.so" || (name.hasPrefix("_duckdb.") && name.hasSuffix(".so"))
    }

    private static func names(in directory: String) -> [String] {
        guard let stream = opendir(directory) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            names.append(name)
        }
        return names.sorted()
    }
}
