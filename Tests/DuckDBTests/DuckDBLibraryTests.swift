// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
import Foundation
import Testing

@Suite struct DuckDBLibraryTests {
    @Test func loadsOnceAndTellsItsVersion() throws {
        let library = try DuckDBFixture.library()
        #expect(library.version.hasPrefix("v"))
        #expect(try DuckDBFixture.library() === library)
    }

    @Test func saysWhereItLookedWhenNothingIsThere() throws {
        try DuckDBFixture.withDirectory { directory in
            let error = #expect(throws: DuckDBError.self) { try DuckDBLibrary.load(candidates: [directory]) }
            guard error?.code == .libraryNotFound else { return }
            #expect(error?.message.contains(directory) == true)
            #expect(error?.message.contains("pip install duckdb") == true)
        }
    }

    @Test func refusesAFileThatIsNoLibrary() throws {
        try DuckDBFixture.withDirectory { directory in
            let path = directory + "/libduckdb.so"
            try "no library".write(toFile: path, atomically: true, encoding: .utf8)
            let error = #expect(throws: DuckDBError.self) { try DuckDBLibrary.load(explicit: path) }
            #expect(error?.code == .libraryUnusable)
            #expect(error?.message.contains(path) == true)
        }
    }

    @Test func namesTheMissingFunctionOfAForeignLibrary() throws {
        let error = #expect(throws: DuckDBError.self) {
            try DuckDBLibrary.load(explicit: "/lib/x86_64-linux-gnu/libm.so.6")
        }
        #expect(error?.code == .libraryUnusable || error?.code == .libraryNotFound)
    }
}
