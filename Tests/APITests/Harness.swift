// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import API
import AsyncHTTPClient
import Foundation
import Logging
import MartletCore
import NIOCore
import NIOHTTP1
import ServiceLifecycle

/// A running server for the length of one closure.
struct Harness: Sendable {
    struct Answer: Sendable {
        let status: Int
        let headers: HTTPHeaders
        let body: [UInt8]

        var text: String { String(decoding: body, as: UTF8.self) }
        var json: JSONValue { (try? JSONValue(parsing: body)) ?? .null }
    }

    let port: Int
    let test: TestServices

    static func run<T: Sendable>(
        obstacles: [String] = [],
        _ configure: (inout APIConfiguration) -> Void = { _ in },
        replacing replace: (inout Services) -> Void = { _ in },
        _ body: @Sendable (Harness) async throws -> T
    ) async throws -> T {
        let test = try await TestServices(obstacles: obstacles)
        var configuration = TestServices.configuration()
        configure(&configuration)
        let (ports, port) = AsyncStream<Int>.makeStream()
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        var services = test.services
        replace(&services)
        let server = try APIServer(configuration: configuration, services: services, logger: logger) { port.yield($0) }
        return try await withThrowingTaskGroup(of: Void.self) { group in
            let running = ServiceGroup(configuration: .init(services: [server], logger: logger))
            group.addTask {
                defer { port.finish() }
                try await running.run()
            }
            guard let listening = await ports.first(where: { _ in true }) else {
                try await group.waitForAll()
                throw CancellationError()
            }
            do {
                let result = try await body(Harness(port: listening, test: test))
                group.cancelAll()
                return result
            } catch {
                group.cancelAll()
                throw error
            }
        }
    }

    func send(
        _ method: HTTPMethod,
        _ path: String,
        _ body: String? = nil,
        type: String? = "application/json",
        headers: [(String, String)] = []
    ) async throws -> Answer {
        try await send(method, path, bytes: body.map { Array($0.utf8) }, type: type, headers: headers)
    }

    func send(
        _ method: HTTPMethod,
        _ path: String,
        bytes: [UInt8]?,
        type: String?,
        headers: [(String, String)] = []
    ) async throws -> Answer {
        var request = HTTPClientRequest(url: "http://127.0.0.1:\(port)\(path)")
        request.method = method
        if let bytes {
            request.body = .bytes(bytes)
            if let type { request.headers.add(name: "content-type", value: type) }
        }
        for header in headers { request.headers.add(name: header.0, value: header.1) }
        let response = try await HTTPClient.shared.execute(request, timeout: .seconds(20))
        let buffer = try await response.body.collect(upTo: 64 << 20)
        return Answer(
            status: Int(response.status.code),
            headers: response.headers,
            body: Array(buffer.readableBytesView)
        )
    }

    /// Sends raw bytes over a connection of their own and returns what comes back until it is closed.
    func raw(_ text: String, closesInput: Bool = false) async throws -> String {
        let port = port
        return try await withCheckedThrowingContinuation { continuation in
            Thread.detachNewThread {
                continuation.resume(
                    with: Result { try RawConnection(port: port).exchange(text, closesInput: closesInput) }
                )
            }
        }
    }
}

/// A blocking socket, for what no HTTP client would send.
final class RawConnection: Sendable {
    struct Failure: Error {
        let code: CInt
    }

    private let descriptor: CInt

    init(port: Int, receiveBytes: CInt? = nil) throws {
        descriptor = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
        if var receiveBytes {
            setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &receiveBytes, socklen_t(MemoryLayout<CInt>.size))
        }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
        let code = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard code == 0 else { throw Failure(code: errno) }
    }

    deinit {
        close(descriptor)
    }

    func write(_ text: String) {
        _ = Array(text.utf8).withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL)) }
    }

    /// Ends the connection in both directions.
    func hangUp() {
        shutdown(descriptor, CInt(SHUT_RDWR))
    }

    func readAll() -> String {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = recv(descriptor, &buffer, buffer.count, 0)
            guard count > 0 else { return String(decoding: bytes, as: UTF8.self) }
            bytes += buffer[..<count]
        }
    }

    func exchange(_ text: String, closesInput: Bool) throws -> String {
        write(text)
        if closesInput { shutdown(descriptor, CInt(SHUT_WR)) }
        return readAll()
    }
}
