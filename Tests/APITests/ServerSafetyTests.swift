// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import API
import Foundation
import Logging
import MartletCore
import NIOHTTP1
import ServiceLifecycle
import Testing

@Suite(.timeLimit(.minutes(5)))
struct ServerSafetyTests {
    @Test(arguments: ["0.0.0.0", "::", "192.168.1.5", "example.org", "127.0.0.1.example.org", "1270.0.0.1"])
    func refusesToListenElsewhereWithoutAToken(host: String) async throws {
        let test = try await TestServices()
        var configuration = TestServices.configuration()
        configuration.host = host
        let error = #expect(throws: ServiceError.self) {
            _ = try APIServer(configuration: configuration, services: test.services, logger: Logger(label: "test"))
        }
        #expect(error?.code == .failedPrecondition)
        #expect(error?.fix?.contains("MARTLET_TOKEN") == true)
        configuration.token = "0123456789"
        _ = try APIServer(configuration: configuration, services: test.services, logger: Logger(label: "test"))
    }

    @Test(arguments: ["", "a b", "tökén", "line\n"])
    func refusesAnUnusableToken(token: String) throws {
        var configuration = TestServices.configuration()
        configuration.token = token
        #expect(throws: ServiceError.self) { try configuration.check() }
    }

    @Test(arguments: ["localhost", "127.0.0.1", "127.1.2.3", "::1", "[::1]", "LOCALHOST"])
    func knowsLoopback(host: String) {
        #expect(APIConfiguration.isLoopback(host))
    }

    @Test func asksForTheToken() async throws {
        try await Harness.run({ $0.token = "s3cret-token" }) { http in
            let wrong: [String?] = [
                nil, "Bearer", "Bearer ", "Bearer s3cret-toke", "Bearer s3cret-tokens", "Basic s3cret-token",
                "Bearer S3CRET-TOKEN",
            ]
            for header in wrong {
                let answer = try await http.send(
                    .GET,
                    "/api/v1/views",
                    headers: header.map { [("authorization", $0)] } ?? []
                )
                #expect(answer.status == 401, "\(header ?? "none")")
                #expect(answer.headers["www-authenticate"] == ["Bearer"])
                #expect(!answer.text.contains("s3cret"))
            }
            #expect(try await http.send(.GET, "/api/v1/nothing").status == 401)
            #expect(try await http.send(.PATCH, "/api/v1/views/x").status == 401)
            for good in ["Bearer s3cret-token", "bearer  s3cret-token"] {
                let answer = try await http.send(
                    .POST,
                    "/api/v1/views?dry_run=true",
                    #"{"name":"a","path":"/"}"#,
                    headers: [("authorization", good), ("host", "engine.example")]
                )
                #expect(answer.status == 200)
                #expect(answer.json["owner"]?["name"] == "admin")
            }
            #expect(try await http.send(.GET, "/healthz").status == 200)
            #expect(try await http.send(.GET, "/nothing").status == 404)
        }
    }

    @Test func saysThatThePortIsInUse() async throws {
        try await Harness.run { http in
            var configuration = TestServices.configuration()
            configuration.port = http.port
            var logger = Logger(label: "test")
            logger.logLevel = .critical
            let server = try APIServer(configuration: configuration, services: http.test.services, logger: logger)
            let error = await #expect(throws: ServiceError.self) { try await server.run() }
            #expect(error?.message.contains("127.0.0.1:\(http.port)") == true)
            #expect(error?.message.contains("another program") == true)
        }
    }

    @Test func closesAConnectionThatSendsNothing() async throws {
        try await Harness.run({ $0.idleSeconds = 1 }) { http in
            let starts = [
                "", "GET /healthz HTT", "POST /api/v1/sql HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{",
            ]
            for start in starts {
                let answer = try await http.raw(start)
                #expect(answer.isEmpty)
            }
            #expect(try await http.send(.GET, "/healthz").status == 200)
        }
    }

    @Test func closesAConnectionThatDripsItsBody() async throws {
        try await Harness.run({ configuration in
            configuration.idleSeconds = 1
            configuration.documentBytesMax = 1000
        }) { http in
            let port = http.port
            let answer = try await withCheckedThrowingContinuation {
                (continuation: CheckedContinuation<String, any Error>) in
                Thread.detachNewThread {
                    continuation.resume(
                        with: Result {
                            let connection = try RawConnection(port: port)
                            connection.write(
                                "POST /api/v1/sql HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n"
                            )
                            // A byte every 0.2 s keeps the connection from being idle; the deadline for the whole body ends it.
                            let writer = Thread {
                                for _ in 0..<40 {
                                    connection.write(" ")
                                    usleep(200_000)
                                }
                            }
                            writer.start()
                            return connection.readAll()
                        }
                    )
                }
            }
            #expect(answer == "")
        }
    }

    @Test func closesAConnectionThatDoesNotReadItsAnswer() async throws {
        try await Harness.run({ $0.stallSeconds = 1 }) { http in
            let port = http.port
            let received = try await withCheckedThrowingContinuation {
                (continuation: CheckedContinuation<Int, any Error>) in
                Thread.detachNewThread {
                    continuation.resume(
                        with: Result {
                            let connection = try RawConnection(port: port, receiveBytes: 65536)
                            // 40 answers of 800,000 bytes do not fit into the sockets' buffers.
                            let request = "GET /api/v1/tables/files/export HTTP/1.1\r\nHost: localhost\r\n\r\n"
                            connection.write(String(repeating: request, count: 40))
                            usleep(6_000_000)  // Long past the limit, also where other tests hold the processors.
                            return connection.readAll().utf8.count
                        }
                    )
                }
            }
            #expect(received < 40 * 800_000)
            #expect(try await http.send(.GET, "/healthz").status == 200)
        }
    }

    @Test func servesNoMoreThanItsConnectionsAtOnce() async throws {
        try await Harness.run({ configuration in
            configuration.connectionsMax = 3
            configuration.idleSeconds = 600
        }) { http in
            let port = http.port
            // Silent, with half of a head, and with half of a body: for none of them the engine works.
            let starts = [
                "", "GET /healthz HTT", "POST /api/v1/sql HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{",
            ]
            let held = try (0..<9).map { number in
                let connection = try RawConnection(port: port)
                connection.write(starts[number % 3])
                return connection
            }
            for _ in 0..<3 {
                let answer = try await http.raw("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                #expect(answer.hasPrefix("HTTP/1.1 200"))
            }
            withExtendedLifetime(held) {}
        }
    }

    @Test func aConnectionThatIsServedDoesNotGiveWay() async throws {
        let (starts, started) = AsyncStream<Void>.makeStream()
        let (cancels, cancelled) = AsyncStream<Void>.makeStream()
        try await Harness.run(
            { $0.connectionsMax = 3 },
            replacing: {
                $0.tables = WaitingTables(started: started, cancelled: cancelled)
            }
        ) { http in
            let served = try RawConnection(port: http.port)
            let body = #"{"sql":"SELECT 1"}"#
            served.write(
                "POST /api/v1/sql HTTP/1.1\r\nHost: localhost\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
            )
            #expect(await starts.first { _ in true } != nil)
            let silent = try (0..<4).map { _ in try RawConnection(port: http.port) }
            let answer = try await http.raw("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            #expect(answer.hasPrefix("HTTP/1.1 200"))
            // Its query would have been given up.
            cancelled.finish()
            #expect(await cancels.first { _ in true } == nil)
            withExtendedLifetime(silent) {}
            served.hangUp()
        }
    }

    /// A few bytes of JSON become many times as many in memory.
    @Test func bodiesOfManyValuesAreCountedByWhatTheyBecome() async throws {
        let many = "{\"records\":[" + String(repeating: "0,", count: 20_000) + "0]}"
        let text = "{\"records\":[{\"value\":\"" + String(repeating: "[0,0]", count: 7_990) + "\"}]}"
        #expect(many.utf8.count >= text.utf8.count)
        try await Harness.run({ $0.bodyBytesMax = 2_000_000 }) { http in
            let busy = try await http.send(.POST, "/api/v1/topics/t/records", many)
            #expect(busy.status == 503)
            #expect(try await http.send(.POST, "/api/v1/topics/t/records", text).status != 503)
        }
        try await Harness.run { http in
            let tooMany = "{\"records\":[" + String(repeating: "0,", count: 4_000_000) + "0]}"
            let refused = try await http.send(.POST, "/api/v1/topics/t/records", tooMany)
            #expect(refused.status == 413)
            #expect(refused.text.contains("values"))
        }
    }

    @Test func answersWhatIsNoHTTPWithAProblem() async throws {
        try await Harness.run { http in
            for text in [
                "\u{16}\u{3}\u{1} hello\r\n\r\n", "GET / HTTP/9.9\r\n\r\n",
                "GET /healthz HTTP/1.1\r\nX: \(String(repeating: "a", count: 400_000))\r\n\r\n",
            ] {
                let answer = try await http.raw(text)
                #expect(answer.hasPrefix("HTTP/1.1 4"), "\(answer)")
                #expect(answer.contains("application/problem+json"), "\(answer)")
            }
        }
    }

    @Test func answersExpectContinue() async throws {
        try await Harness.run { http in
            let body = #"{"sql":"SELECT 1"}"#
            let answer = try await http.raw(
                "POST /api/v1/sql HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
            )
            #expect(answer.hasPrefix("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200"))
        }
    }

    @Test func stopsReadingABodyThatIsTooLarge() async throws {
        try await Harness.run({ $0.documentBytesMax = 1000 }) { http in
            let answer = try await http.raw(
                "POST /api/v1/sql HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n{"
            )
            #expect(answer.hasPrefix("HTTP/1.1 413"))
            #expect(answer.lowercased().contains("connection: close"))
        }
    }

    @Test func stopsTheQueryOfACallerWhoWentAway() async throws {
        let (starts, started) = AsyncStream<Void>.makeStream()
        let (cancels, cancelled) = AsyncStream<Void>.makeStream()
        try await Harness.run(replacing: { $0.tables = WaitingTables(started: started, cancelled: cancelled) }) {
            http in
            let connection = try RawConnection(port: http.port)
            let body = #"{"sql":"SELECT 1"}"#
            connection.write(
                "POST /api/v1/sql HTTP/1.1\r\nHost: localhost\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
            )
            #expect(await starts.first { _ in true } != nil)
            connection.hangUp()
            #expect(await cancels.first { _ in true } != nil)
        }
    }

    @Test func manyCallersAtOnceAreAllServed() async throws {
        try await Harness.run { http in
            let statuses = try await withThrowingTaskGroup(of: Int.self) { group in
                for index in 0..<200 {
                    group.addTask {
                        try await http.send(.POST, "/api/v1/views", #"{"name":"v\#(index % 50)","path":"/"}"#).status
                    }
                }
                return try await group.reduce(into: [:]) { $0[$1, default: 0] += 1 }
            }
            #expect(statuses == [201: 50, 409: 150])
        }
    }
}
