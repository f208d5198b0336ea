// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import Foundation
import MartletCore
import Testing

@Suite(.timeLimit(.minutes(5)))
struct SecretTests {
    private let fixture: CatalogFixture
    private let keyPath: String

    init() throws {
        fixture = try CatalogFixture()
        keyPath = fixture.directory + "/secret.key"
    }

    private static let caller = Caller(name: "ada")

    private func open() async throws -> (SecretStore, SecretService) {
        let store = try await SecretStore(catalog: fixture.catalog, keyPath: keyPath)
        return (store, SecretService(catalog: fixture.catalog, store: store))
    }

    private static func document(_ json: String) throws -> Document {
        Document(value: try JSONValue(parsing: json))
    }

    @Test(arguments: [
        #"{"name":"db","entries":[{"key":"user","value":"u"},{"key":"pass.word","value":"hidden-value-π"}]}"#,
        #"{"name":"db","kubernetes_cluster_vrn":"vast:dataengine:kubernetes-clusters:c","namespace":"n","entries":{"pass.word":"hidden-value-π","user":"u"}}"#,
        #"{"db":{"user":"u","pass.word":"hidden-value-π"}}"#,
    ])
    func acceptsBothForms(json: String) async throws {
        let (store, service) = try await open()
        let made = try await service.create(try Self.document(json), by: Self.caller, dryRun: false)
        #expect(made.spec.keys == ["pass.word", "user"])
        #expect(try await store.values(["db"]) == ["db": ["user": "u", "pass.word": "hidden-value-π"]])
        #expect(try await service.get(made.guid).metadata == made.metadata)
        try fixture.catalog.close()
        for file in try FileManager.default.contentsOfDirectory(atPath: fixture.directory) {
            let bytes = try Data(contentsOf: URL(fileURLWithPath: fixture.directory + "/" + file))
            #expect(bytes.range(of: Data("hidden-value".utf8)) == nil, "\(file) shows a value")
        }
    }

    @Test(arguments: [
        (#"[1]"#, ""),
        (#"{"name":"a b","entries":[{"key":"k","value":"v"}]}"#, "name"),
        (#"{"entries":[{"key":"k","value":"v"}]}"#, "name"),
        (#"{"name":"s"}"#, "entries"),
        (#"{"name":"s","entries":[]}"#, "entries"),
        (#"{"name":"s","entries":[{"key":"k","value":5}]}"#, "entries[0].value"),
        (#"{"name":"s","entries":[{"key":"k"}]}"#, "entries[0].value"),
        (#"{"name":"s","entries":[{"value":"v"}]}"#, "entries[0].key"),
        (#"{"name":"s","entries":[{"key":"k","value":"v","x":1}]}"#, "entries[0].x"),
        (#"{"name":"s","entries":[{"key":"k","value":"v"},{"key":"k","value":"w"}]}"#, "entries[1].value"),
        (#"{"name":"s","entries":[{"key":"../k","value":"v"}]}"#, "entries"),
        (#"{"name":"s","colour":"red","entries":[{"key":"k","value":"v"}]}"#, "colour"),
        (#"{"name":1,"entries":[{"key":"k","value":"v"}]}"#, "name"),
        (#"{"one":{"k":"v"},"two":{"k":"v"}}"#, "one"),
        (#"{"s":{"k":1.10}}"#, "s.k"),
        (#"{"s":{}}"#, "entries"),
    ])
    func refuses(json: String, field: String) async throws {
        let (_, service) = try await open()
        let error = try await serviceError {
            _ = try await service.create(try Self.document(json), by: Self.caller, dryRun: false)
        }
        #expect(error?.code == .invalid)
        #expect(error?.fields.first?.field == field)
        #expect(try await service.list(ListQuery()).items.isEmpty)
    }

    @Test func updatesWhatIsGiven() async throws {
        let (store, service) = try await open()
        _ = try await service.create(try Self.document(#"{"s":{"a":"1","b":"2"}}"#), by: Self.caller, dryRun: false)
        let described = try await service.update(
            "s",
            try Self.document(#"{"description":"d"}"#),
            by: Self.caller,
            dryRun: false
        )
        #expect(described.spec.keys == ["a", "b"])
        let rehearsed = try await service.update(
            "s",
            try Self.document(#"{"s":{"c":"3"}}"#),
            by: Self.caller,
            dryRun: true
        )
        #expect(rehearsed.spec.keys == ["c"])
        #expect(try await store.values(["s"]) == ["s": ["a": "1", "b": "2"]])
        _ = try await service.update("s", try Self.document(#"{"s":{"c":"3"}}"#), by: Self.caller, dryRun: false)
        #expect(try await store.values(["s"]) == ["s": ["c": "3"]])
        let error = try await serviceError {
            _ = try await service.update("s", try Self.document(#"{"t":{"c":"3"}}"#), by: Self.caller, dryRun: false)
        }
        #expect(error?.fields.first?.field == "name")
        try await service.delete("s", by: Self.caller)
        let gone = try await serviceError { _ = try await store.values(["s"]) }
        #expect(gone?.code == .notFound)
    }

    @Test func theKeyFileIsPrivateAndStays() async throws {
        _ = try await open()
        let first = try Data(contentsOf: URL(fileURLWithPath: keyPath))
        let mode = try FileManager.default.attributesOfItem(atPath: keyPath)[.posixPermissions] as? Int
        #expect(mode == 0o600)
        _ = try await open()
        #expect(try Data(contentsOf: URL(fileURLWithPath: keyPath)) == first)
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: fixture.directory).filter { $0.hasSuffix(".tmp") }
                .isEmpty
        )
    }

    enum Harm: CaseIterable {
        case removed, empty, truncated, noise, link, directory, open, other
    }

    @Test(arguments: Harm.allCases)
    func saysWhatIsWrongWithTheKeyFile(harm: Harm) async throws {
        let (_, service) = try await open()
        _ = try await service.create(try Self.document(#"{"s":{"a":"1"}}"#), by: Self.caller, dryRun: false)
        let content = try Data(contentsOf: URL(fileURLWithPath: keyPath))
        try FileManager.default.removeItem(atPath: keyPath)
        var replacement: Data?
        switch harm {
        case .removed: break
        case .empty: replacement = Data()
        case .truncated: replacement = content.dropLast(7)
        case .noise: replacement = Data(repeating: 0xFF, count: 300)
        case .link: #expect(symlink("/dev/null", keyPath) == 0)
        case .directory: #expect(mkdir(keyPath, 0o700) == 0)
        case .open: replacement = content
        case .other:
            let other = try CatalogFixture()
            _ = try await SecretStore(catalog: other.catalog, keyPath: keyPath)
        }
        if let replacement {
            try replacement.write(to: URL(fileURLWithPath: keyPath))
            #expect(chmod(keyPath, harm == .open ? 0o644 : 0o600) == 0)
        }
        let error = try await serviceError { _ = try await open() }
        #expect(error?.code == .failedPrecondition)
        #expect(error?.message.contains(keyPath) == true)
        #expect(error?.fix != nil)
    }

    @Test func findsValuesThatWereMovedInTheFile() async throws {
        let (store, service) = try await open()
        let document = try Self.document(#"{"s":{"a":"1","b":"2"}}"#)
        _ = try await service.create(document, by: Self.caller, dryRun: false)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = [
            "python3", "-c",
            "import sqlite3,sys; c=sqlite3.connect(sys.argv[1]); "
                + "c.execute(\"update secret_values set sealed=(select sealed from secret_values where key='b') where key='a'\"); c.commit()",
            fixture.path,
        ]
        try process.run()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0)
        let error = try await serviceError { _ = try await store.values(["s"]) }
        #expect(error?.code == .internal)
        #expect(error?.message.contains("'a' of the secret 's'") == true)
    }

    @Test func aNewKeyIsMadeWhereNothingIsSealed() async throws {
        _ = try await open()
        try FileManager.default.removeItem(atPath: keyPath)
        let (store, service) = try await open()
        _ = try await service.create(try Self.document(#"{"s":{"a":"1"}}"#), by: Self.caller, dryRun: false)
        #expect(try await store.values(["s"]) == ["s": ["a": "1"]])
    }
}
