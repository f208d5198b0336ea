// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import DuckDB
import Glibc
import MartletCore

/// Compares files of one append table with what the catalog says of them; every call blocks.
struct FileInspector: Sendable {
    /// How much of a file is looked at.
    enum Depth: Sendable {
        /// Its size, and that it begins and ends as a Parquet file does.
        case quick
        /// Every byte.
        case full
    }

    let folder: TableFolder

    /// What is wrong with a file, or nil.
    ///
    /// `place` is where it is looked for below the table's folder. A file without a checksum, from before there was one, is read by
    /// `connection` as a query would; without a connection its contents are not looked at.
    func problem(_ file: AppendTableFile, at place: String? = nil, _ depth: Depth, _ connection: Connection?) -> String?
    {
        let path = folder.absolute(place ?? file.path)
        var status = stat()
        guard stat(path, &status) == 0 else {
            return errno == ENOENT ? "it is not there" : "it cannot be read: \(String(cString: strerror(errno)))"
        }
        guard status.st_size == file.bytes else {
            return "it has \(status.st_size) bytes and the catalog says \(file.bytes)"
        }
        guard Self.looksLikeParquet(path, bytes: file.bytes) else {
            return "it does not begin and end as a Parquet file does"
        }
        guard depth == .full else { return nil }
        guard let checksum = file.checksum else { return connection.flatMap { unreadable(file, path, $0) } }
        do {
            let found = try FileChecksum.of(path)
            return found == checksum ? nil : "its bytes are not those that were written (the checksum is another)"
        } catch {
            return "it cannot be read: \(error.message)"
        }
    }

    private static func looksLikeParquet(_ path: String, bytes: Int64) -> Bool {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        // Whoever reads all of it says why it cannot be opened.
        guard file >= 0 else { return true }
        defer { close(file) }
        let mark = Array("PAR1".utf8)
        return [0, max(0, off_t(bytes) - 4)].allSatisfy { place in
            var found = [UInt8](repeating: 0, count: 4)
            return pread(file, &found, 4, place) == 4 && found == mark
        }
    }

    /// Reads every value: counting rows would read the footer alone.
    private func unreadable(_ file: AppendTableFile, _ path: String, _ connection: Connection) -> String? {
        do {
            let rows = try connection.query(
                """
                SELECT count(*), sum(hash(t)) FROM read_parquet(\(SQLText.literal(path)), hive_partitioning = false) AS t
                """
            ).rows()
            guard case .int(let count)? = rows.first?.first, count == file.rows else {
                return "it has other rows than the \(file.rows) the catalog says"
            }
            return nil
        } catch {
            return "it cannot be read: \(error.message)"
        }
    }
}
