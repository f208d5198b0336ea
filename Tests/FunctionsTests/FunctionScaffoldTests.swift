// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Documents
import Foundation
import Functions
import MartletCore
import Testing

struct FunctionScaffoldTests {
    @Test func makesAFolderThatBuilds() async throws {
        let bench = try FunctionBench()
        let folder = bench.directory + "/hello"
        let written = try FunctionScaffold.write(runtime: "python-pip", name: "hello", to: folder)
        #expect(
            written == [
                "main.py", "requirements.txt", "Aptfile", "customDeps", "README.md", "config.yaml", "cloudevent.yaml",
            ]
        )
        let config = try DocumentParser.parse(
            Array(try Data(contentsOf: URL(fileURLWithPath: folder + "/config.yaml"))),
            contentType: nil
        )
        #expect(config.value["secrets"]?["example"]?["password"] == .string("change-me"))
        let event = try DocumentParser.parse(
            Array(try Data(contentsOf: URL(fileURLWithPath: folder + "/cloudevent.yaml"))),
            contentType: nil
        )
        #expect(event.value["id"] == .string("1004356627333135"))
        let builder = BundleBuilder(bench.settings)
        let request = BundleBuilder.Request(archive: try FunctionFolder.archive(folder), name: "hello")
        let bundle = try await builder.build(request) { _ in }
        let output = try bench.run(
            try builder.store.launch(bundle.digest),
            "import sys, os; sys.path.insert(0, os.environ['MARTLET_APP_PATH']); import main; "
                + "L = type('L', (), {'info': lambda *a: None}); c = type('C', (), {'logger': L, 'function_name': 'f'}); "
                + "main.init(c); print(main.handler(c, type('E', (), {'id': 1, 'type': 2})))"
        )
        #expect(output == "Hello World")
    }

    @Test func refusesAFolderWithSomethingInItUnlessForced() throws {
        let bench = try FunctionBench()
        let folder = bench.directory + "/hello"
        _ = try FunctionScaffold.write(runtime: "python-pip", name: "hello", to: folder, handler: "app.py")
        let own = URL(fileURLWithPath: folder + "/own.txt")
        try Data("own".utf8).write(to: own)
        let error = #expect(throws: ServiceError.self) {
            try FunctionScaffold.write(runtime: "python-pip", name: "hello", to: folder)
        }
        #expect(error?.code == .alreadyExists)
        _ = try FunctionScaffold.write(runtime: "python-pip", name: "hello", to: folder, force: true)
        #expect(FileManager.default.fileExists(atPath: own.path))
        #expect(FileManager.default.fileExists(atPath: folder + "/main.py"))
    }

    @Test func refusesWhatItCannotMake() throws {
        let bench = try FunctionBench()
        let folder = bench.directory + "/x"
        #expect(throws: ServiceError.self) { try FunctionScaffold.write(runtime: "rust", name: "x", to: folder) }
        #expect(throws: ServiceError.self) {
            try FunctionScaffold.write(runtime: "python-pip", name: "a b", to: folder)
        }
        #expect(throws: ServiceError.self) {
            try FunctionScaffold.write(runtime: "python-pip", name: "x", to: folder, handler: "../main.py")
        }
        #expect(!FileManager.default.fileExists(atPath: folder))
    }
}
