// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import Foundation
import Identity
import Logging
import MartletCore
import NIOCore
import NIOPosix
import Testing

/// Users and rules over a real catalog.
@Suite(.timeLimit(.minutes(5)))
struct KafkaUsersTests {
    private struct Stand {
        let directory: String
        let catalog: Catalog
        let users: KafkaUsers
        let store: KafkaAccessStore
        let metrics = MetricRegistry()

        init() async throws {
            directory = NSTemporaryDirectory() + UUID().uuidString
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
            catalog = try Catalog.open(path: directory + "/catalog.sqlite")
            let secrets = try await SecretStore(catalog: catalog, keyPath: directory + "/secret.key")
            store = KafkaAccessStore(catalog: catalog, secrets: secrets)
            users = KafkaUsers(store: store)
        }

        func authenticator(
            users: KafkaUsers? = nil,
            _ change: (inout Authenticator.Settings) -> Void = { _ in }
        ) -> Authenticator {
            var settings = Authenticator.Settings()
            change(&settings)
            return Authenticator(
                settings: settings,
                users: users ?? self.users,
                tokens: nil,
                metrics: metrics,
                logger: Logger(label: "test")
            )
        }

        func close() throws {
            try catalog.close()
            try FileManager.default.removeItem(atPath: directory)
        }
    }

    private func logIn(_ authenticator: Authenticator, _ user: String, _ password: String) async throws -> SaslExchange
        .Success?
    {
        var exchange = try #require(authenticator.begin("PLAIN", peer: "10.0.0.1"))
        switch try await exchange.respond(Array("\0\(user)\0\(password)".utf8)) {
        case .done(_, let success): return success
        default: return nil
        }
    }

    @Test func aUserLogsInUntilTheUserChanges() async throws {
        let stand = try await Stand()
        let authenticator = stand.authenticator()
        let made = try await stand.users.create("alice", password: "correct horse")
        #expect(made.mechanisms == ["SCRAM-SHA-256", "SCRAM-SHA-512"])
        let success = try #require(try await logIn(authenticator, "alice", "correct horse"))
        #expect(success.principal == Principal(name: "alice"))
        #expect(authenticator.isCurrent(success))
        #expect(try await logIn(authenticator, "alice", "wrong") == nil)
        #expect(try await logIn(authenticator, "bob", "correct horse") == nil)
        _ = try await stand.users.update("alice", password: "battery staple")
        #expect(!authenticator.isCurrent(success))
        #expect(try await logIn(authenticator, "alice", "correct horse") == nil)
        let second = try #require(try await logIn(authenticator, "alice", "battery staple"))
        try await stand.users.delete("alice")
        #expect(!authenticator.isCurrent(second))
        #expect(try await logIn(authenticator, "alice", "battery staple") == nil)
        try stand.close()
    }

    @Test func nothingTellsAnUnknownUserFromAWrongPassword() async throws {
        let stand = try await Stand()
        _ = try await stand.users.create("alice", password: "correct horse")
        let authenticator = stand.authenticator()
        var challenges: [String: Set<String>] = [:]
        for _ in 0..<3 {
            for user in ["alice", "nobody"] {
                var exchange = try #require(authenticator.begin("SCRAM-SHA-256", peer: "10.0.0.1"))
                let step = try await exchange.respond(Array("n,,n=\(user),r=abc".utf8))
                guard case .challenge(let bytes) = step else {
                    Issue.record("\(user) is not challenged")
                    continue
                }
                let fields = String(decoding: bytes, as: UTF8.self).split(separator: ",").map(String.init)
                // The salt stays the same from one login to the next, also that of nobody.
                challenges[user, default: []].insert(fields[1] + fields[2])
                let final = "c=biws,\(fields[0]),p=\(Data(repeating: 1, count: 32).base64EncodedString())"
                guard case .failed(let failure, let named) = try await exchange.respond(Array(final.utf8)) else {
                    Issue.record("\(user) is let in")
                    continue
                }
                #expect(failure == SaslFailure("the user or the password is wrong"))
                #expect(named == user)
            }
        }
        #expect(challenges.mapValues(\.count) == ["alice": 1, "nobody": 1])
        #expect(Set(challenges.values.flatMap { $0 }.map { $0.utf8.count }).count == 1)
        try stand.close()
    }

    /// A salt that changes with a start, where those of others stay, would tell who does not exist.
    @Test func whatAnUnknownUserIsAskedSurvivesAStart() async throws {
        let stand = try await Stand()
        var challenges: Set<String> = []
        for _ in 0..<2 {
            let secrets = try await SecretStore(catalog: stand.catalog, keyPath: stand.directory + "/secret.key")
            let users = KafkaUsers(store: KafkaAccessStore(catalog: stand.catalog, secrets: secrets))
            var exchange = try #require(
                stand.authenticator(users: users).begin("SCRAM-SHA-512", peer: "10.0.0.1")
            )
            guard case .challenge(let bytes) = try await exchange.respond(Array("n,,n=nobody,r=abc".utf8)) else {
                Issue.record("nobody is not challenged")
                return
            }
            challenges.insert(String(String(decoding: bytes, as: UTF8.self).drop { $0 != "," }))
        }
        #expect(challenges.count == 1)
        try stand.close()
    }

    /// What others do on the threads that all share, such as reading files, holds up no login, and so no login holds them up.
    @Test func passwordsAreHashedOnThreadsOfTheirOwn() async throws {
        let stand = try await Stand()
        let release = DispatchSemaphore(value: 0)
        let count = System.coreCount * 4 + 64
        for _ in 0..<count { NIOThreadPool.singleton.submit { _ in release.wait() } }
        defer { for _ in 0..<count { release.signal() } }
        _ = try await stand.users.create("alice", password: "correct horse")
        #expect(try await logIn(stand.authenticator(), "alice", "correct horse") != nil)
        #expect(try await logIn(stand.authenticator(), "alice", "wrong") == nil)
        try stand.close()
    }

    @Test func tooManyPasswordsAreRefused() async throws {
        let threads = PasswordThreads(threads: 1, waitingMax: 0)
        let release = DispatchSemaphore(value: 0)
        let (begun, begin) = AsyncStream.makeStream(of: Void.self)
        async let first: Void = threads.run {
            begin.finish()
            release.wait()
        }
        for await _ in begun {}
        let refusal = await #expect(throws: ServiceError.self) { try await threads.run {} }
        #expect(refusal?.code == .unavailable)
        release.signal()
        try await first
        try await threads.run {}
    }

    /// However many connections guess at once, few guesses are checked, and users who have been there before get in meanwhile.
    @Test func guessingAtOnceIsAsSlowAsOneAfterTheOther() async throws {
        let stand = try await Stand()
        let authenticator = stand.authenticator()
        _ = try await stand.users.create("alice", password: "correct horse")
        _ = try await stand.users.create("bob", password: "battery staple")
        #expect(try await logIn(authenticator, "bob", "battery staple") != nil)
        var outcomes: [String: Int] = [:]
        try await withThrowingTaskGroup(of: String.self) { group in
            for number in 0..<100 {
                group.addTask {
                    var exchange = try #require(authenticator.begin("PLAIN", peer: "10.0.0.1"))
                    return switch try await exchange.respond(Array("\0alice\0guess \(number)".utf8)) {
                    case .done: "done"
                    case .failed: "failed"
                    case .refused: "refused"
                    case .challenge: "challenge"
                    }
                }
            }
            // Those that are checked before the first has failed, and one more.
            for _ in 0..<4 { outcomes[try #require(try await group.next()), default: 0] += 1 }
            #expect(try await logIn(authenticator, "bob", "battery staple") != nil)
            outcomes[try #require(try await group.next()), default: 0] += 1
            // Those that are given up have not been checked.
            group.cancelAll()
            while let result = await group.nextResult() {
                outcomes[(try? result.get()) ?? "given up", default: 0] += 1
            }
        }
        #expect(outcomes["failed", default: 0] <= 12, "\(outcomes)")
        #expect(outcomes["given up", default: 0] >= 88, "\(outcomes)")
        try stand.close()
    }

    @Test func theEnginesTokensAreBearerTokens() async throws {
        let stand = try await Stand()
        let authenticator = stand.authenticator { settings in
            settings.token = "all-rights"
            settings.readToken = "looks-only"
        }
        func bearer(_ token: String) async throws -> Principal? {
            var exchange = try #require(authenticator.begin("OAUTHBEARER", peer: "10.0.0.1"))
            switch try await exchange.respond(Array("n,,\u{1}auth=Bearer \(token)\u{1}\u{1}".utf8)) {
            case .done(_, let success): return success.principal
            case .challenge:
                // The client hears why, and then that it failed.
                guard case .failed = try await exchange.respond([1]) else {
                    Issue.record("a refused token goes on")
                    return nil
                }
                return nil
            case .failed, .refused: return nil
            }
        }
        #expect(try await bearer("all-rights")?.isSuper == true)
        #expect(try await bearer("looks-only")?.isReadOnly == true)
        #expect(try await bearer("guess") == nil)
        try stand.close()
    }

    @Test func offersOnlyWhatIsSet() async throws {
        let stand = try await Stand()
        let authenticator = stand.authenticator { $0.mechanisms = [.scramSHA512] }
        #expect(authenticator.begin("SCRAM-SHA-512", peer: "10.0.0.1") != nil)
        for other in ["PLAIN", "SCRAM-SHA-256", "OAUTHBEARER", "GSSAPI", ""] {
            #expect(authenticator.begin(other, peer: "10.0.0.1") == nil)
        }
        try stand.close()
    }

    @Test func whatIsStoredIsSealed() async throws {
        let stand = try await Stand()
        _ = try await stand.users.create("alice", password: "correct horse")
        try stand.catalog.close()
        for name in try FileManager.default.contentsOfDirectory(atPath: stand.directory) {
            let bytes = try Data(contentsOf: URL(fileURLWithPath: stand.directory + "/" + name))
            for secret in ["correct horse", "storedKey", "SCRAM-SHA"] {
                #expect(bytes.range(of: Data(secret.utf8)) == nil, "\(name) shows \(secret)")
            }
        }
        try FileManager.default.removeItem(atPath: stand.directory)
    }

    @Test(arguments: ["", "*", "ANONYMOUS", "a\u{0}b", String(repeating: "x", count: 250)])
    func refusesAName(_ name: String) async throws {
        let stand = try await Stand()
        await #expect(throws: ServiceError.self) { try await stand.users.create(name, password: "x") }
        try stand.close()
    }

    @Test func rulesSurviveAndHold() async throws {
        let stand = try await Stand()
        let alice = Principal(name: "alice")
        let acl = KafkaACL(.allow, "User:alice", .write, on: .topic, "frames")
        var control = try await AccessControl(
            store: stand.store,
            isEnabled: true,
            superUsers: ["User:root"],
            metrics: stand.metrics
        )
        #expect(!control.allow(alice, host: "::1", .write, on: .topic, "frames"))
        #expect(control.allow(Principal(name: "root"), host: "::1", .write, on: .topic, "frames"))
        #expect(!control.allow(Principal(name: "root", isReadOnly: true), host: "::1", .write, on: .topic, "frames"))
        let stored = try await control.add([acl])
        #expect(try await control.add([acl]) == stored, "the same rule twice is one")
        #expect(control.allow(alice, host: "::1", .write, on: .topic, "frames"))
        control = try await AccessControl(store: stand.store, isEnabled: true, metrics: stand.metrics)
        #expect(control.allow(alice, host: "::1", .write, on: .topic, "frames"))
        #expect(!control.allow(Principal(name: "root"), host: "::1", .write, on: .topic, "frames"))
        let off = try await AccessControl(store: stand.store, isEnabled: false, metrics: stand.metrics)
        #expect(off.allow(Principal(name: "bob"), host: "::1", .alter, on: .cluster, KafkaACL.clusterName))
        #expect(!off.allow(Principal(name: "reader", isReadOnly: true), host: "::1", .write, on: .topic, "frames"))
        #expect(try await control.remove { $0.acl.principal == "User:alice" } == stored)
        #expect(!control.allow(alice, host: "::1", .write, on: .topic, "frames"))
        try stand.close()
    }
}
