// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import AsyncHTTPClient
import Foundation
import MartletCore
import NIOCore
import NIOHTTP1
import NIOPosix

/// HTTP to one server over one thread; what comes back is bytes or a ``CommandFailure``.
struct Transport: Sendable {
    /// An answer whose body is still to be read.
    struct Answer: Sendable {
        var status: Int
        var contentType: String
        var body: HTTPClientResponse.Body
    }

    private let client: HTTPClient
    /// Base address without a trailing slash.
    let server: String
    private let token: String?
    private let seconds: Double
    /// What to do when nothing listens at the address.
    private let hint: String

    /// Opens a client for the time `body` takes.
    static func with<R: Sendable>(
        server: String,
        token: String?,
        seconds: Double,
        hint: String = "start the engine with: martlet serve (or name another one with --server or MARTLET_SERVER)",
        _ body: (Transport) async throws -> R
    ) async throws -> R {
        var configuration = HTTPClient.Configuration()
        configuration.timeout.connect = .milliseconds(Int64(min(5, seconds) * 1000))
        configuration.timeout.read = .milliseconds(Int64(seconds * 1000))
        configuration.connectionPool.retryConnectionEstablishment = false
        configuration.httpVersion = .http1Only
        configuration.redirectConfiguration = .disallow
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let client = HTTPClient(eventLoopGroupProvider: .shared(group), configuration: configuration)
        let transport = Transport(client: client, server: server, token: token, seconds: seconds, hint: hint)
        do {
            let result = try await body(transport)
            try await client.shutdown()
            try await group.shutdownGracefully()
            return result
        } catch {
            try? await client.shutdown()  // The error being thrown says more.
            try? await group.shutdownGracefully()  // As above.
            throw error
        }
    }

    /// Sends a request and returns when the head of the answer is there; `seconds` replaces the transport's own longest wait.
    func send(_ request: APIRequest, seconds: Double? = nil, headers: [(String, String)] = []) async throws -> Answer {
        var message = HTTPClientRequest(url: server + request.target)
        message.method = HTTPMethod(rawValue: request.method)
        message.headers.add(name: "Accept", value: request.accept)
        message.headers.add(name: "User-Agent", value: "martlet-cli")
        if let token { message.headers.add(name: "Authorization", value: "Bearer \(token)") }
        for (name, value) in headers { message.headers.add(name: name, value: value) }
        if let body = request.body {
            message.headers.add(name: "Content-Type", value: body.contentType)
            message.body = .bytes(ByteBuffer(bytes: body.bytes))
        }
        let limit = seconds ?? self.seconds
        do {
            let response = try await client.execute(message, timeout: .milliseconds(Int64(limit * 1000)))
            return Answer(
                status: Int(response.status.code),
                contentType: response.headers.first(name: "Content-Type") ?? "",
                body: response.body
            )
        } catch {
            throw failure(error, request)
        }
    }

    /// Reads a whole body.
    ///
    /// - Throws: `CommandFailure` when it is larger than `limit` bytes or stops arriving.
    func collect(_ answer: Answer, of request: APIRequest, limit: Int = 512 << 20) async throws -> [UInt8] {
        do {
            let buffer = try await answer.body.collect(upTo: limit)
            return Array(buffer.readableBytesView)
        } catch is NIOTooManyBytesError {
            throw CommandFailure(
                .failure,
                "the answer to \(request.method) \(request.target) has more than \(limit) bytes",
                fix: "ask for less with --limit, or use: martlet tables export"
            )
        } catch {
            throw failure(error, request)
        }
    }

    /// Hands over a body piece by piece.
    func stream(
        _ answer: Answer,
        of request: APIRequest,
        _ body: ([UInt8]) async throws -> Void
    ) async throws {
        var chunks = answer.body.makeAsyncIterator()
        while true {
            let chunk: ByteBuffer?
            do {
                chunk = try await chunks.next()
            } catch {
                throw failure(error, request)
            }
            guard let chunk else { return }
            try await body(Array(chunk.readableBytesView))
        }
    }

    private func failure(_ error: any Error, _ request: APIRequest) -> any Error {
        switch error {
        case is CancellationError, is CommandFailure: return error
        case let error as HTTPClientError where error == .deadlineExceeded || error == .readTimeout:
            return CommandFailure(
                .timeout,
                "no answer from \(server) to \(request.method) \(request.target) within \(format(seconds)) s",
                fix: "wait longer with --timeout SECONDS"
            )
        case let error as HTTPClientError where error == .cancelled: return CancellationError()
        case let error as HTTPClientError where error == .remoteConnectionClosed: return closed(request)
        case let error as HTTPParserError where error == .invalidEOFState: return closed(request)
        case let error as IOError where error.errnoCode == ECONNRESET: return closed(request)
        default:
            return CommandFailure(.unreachable, "cannot reach \(server): \(reason(error))", fix: hint)
        }
    }

    private func closed(_ request: APIRequest) -> CommandFailure {
        CommandFailure(
            .unreachable,
            "\(server) closed the connection before it had answered \(request.method) \(request.target)",
            fix: "look at the engine's own log; it may have stopped"
        )
    }

    private func reason(_ error: any Error) -> String {
        switch error {
        case let error as HTTPClientError where error == .connectTimeout: "no connection within the time allowed"
        case let error as IOError: String(cString: strerror(error.errnoCode))
        case let error as NIOConnectionError:
            error.connectionErrors.first.map { reason($0.error) }
                ?? error.dnsAError.map { _ in "the host '\(error.host)' has no address" } ?? "no connection"
        // Libraries name the file of their own source in which they gave up, which says nothing to anybody here.
        default: "\(error)".replacing(/\ at \/[^ ,)\]]+:[0-9]+/, with: "")
        }
    }

    private func format(_ seconds: Double) -> String {
        seconds == seconds.rounded() ? String(Int(seconds)) : String(seconds)
    }
}
