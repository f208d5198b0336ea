// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import AsyncHTTPClient
import Foundation
import MartletCore
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL

/// Where the public keys of whoever issues bearer tokens are read from: a file, or an address over https.
struct KeySource: Sendable {
    private static let documentBytesMax = 1 << 20
    /// For all of an answer, from the connection to its last byte.
    private static let answerSeconds: Int64 = 5

    /// A path or an address, as it was given.
    let place: String
    /// Whether it is an address.
    let isRemote: Bool
    private let authorities: [NIOSSLCertificate]?

    /// Takes the path of a file, an `https://` address, or an `http://` address of this machine.
    ///
    /// Blocks while `authorities` is read, a PEM file of those that vouch for the address.
    ///
    /// - Throws: `ServiceError` `.failedPrecondition` for anything else.
    init(_ place: String, authorities: String?) throws {
        self.place = place
        isRemote = place.contains("://")
        if isRemote {
            let address = URL(string: place)
            let host = address?.host ?? ""
            switch address?.scheme?.lowercased() {
            case "https" where !host.isEmpty: break
            case "http" where ["127.0.0.1", "localhost", "::1", "[::1]"].contains(host): break
            case "http":
                throw Self.unusable("keys from \(host) over http could be replaced on their way", fix: "use https://")
            default: throw Self.unusable("'\(place)' is no address", fix: "use a path, or https://HOST/PATH")
            }
        }
        guard let authorities else {
            self.authorities = nil
            return
        }
        do {
            self.authorities = try NIOSSLCertificate.fromPEMFile(authorities)
        } catch {
            throw ServiceError(
                .failedPrecondition,
                "kafka.oauth.ca: \(authorities) cannot be used: \(error)",
                fix: "name a readable PEM file with certificates of authorities"
            )
        }
    }

    private static func unusable(_ message: String, fix: String) -> ServiceError {
        ServiceError(.failedPrecondition, "kafka.oauth.jwks: \(message)", fix: fix)
    }

    /// Reads the document, of 1 MiB at most.
    ///
    /// - Throws: ``SaslFailure`` or what the system says.
    func read() async throws -> [UInt8] {
        guard isRemote else {
            let place = place
            return try await NIOThreadPool.singleton.runIfActive { try Self.content(place) }
        }
        var configuration = HTTPClient.Configuration()
        configuration.timeout.connect = .seconds(Self.answerSeconds)
        // Whoever can make the issuer redirect, and to anywhere, would say which tokens are good.
        configuration.redirectConfiguration = .disallow
        if let authorities {
            var security = TLSConfiguration.makeClientConfiguration()
            security.trustRoots = .certificates(authorities)
            configuration.tlsConfiguration = security
        }
        let client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
        let result: Result<[UInt8], any Error>
        do {
            result = .success(try await answer(client))
        } catch {
            result = .failure(error)
        }
        try? await client.shutdown()  // Nothing is left that could fail.
        return try result.get()
    }

    /// The client's own deadline ends with the head of the answer, so there is one around all of it.
    private func answer(_ client: HTTPClient) async throws -> [UInt8] {
        let place = place
        return try await withThrowingTaskGroup(of: [UInt8].self) { group in
            group.addTask {
                let request = HTTPClientRequest(url: place)
                let answer = try await client.execute(request, timeout: .seconds(Self.answerSeconds))
                guard answer.status == .ok else {
                    let isElsewhere = (300..<400).contains(answer.status.code)
                    throw SaslFailure(
                        "the answer was \(answer.status.code)\(isElsewhere ? "; redirects are not followed" : "")"
                    )
                }
                return Array(try await answer.body.collect(upTo: Self.documentBytesMax).readableBytesView)
            }
            group.addTask {
                try await Task.sleep(for: .seconds(Self.answerSeconds))
                throw SaslFailure("there was no whole answer within \(Self.answerSeconds) seconds")
            }
            defer { group.cancelAll() }
            guard let bytes = try await group.next() else { throw CancellationError() }
            return bytes
        }
    }

    /// Blocks.
    private static func content(_ path: String) throws -> [UInt8] {
        guard let file = FileHandle(forReadingAtPath: path) else {
            throw SaslFailure("there is no such file, or it cannot be read")
        }
        defer { try? file.close() }  // Only read from.
        let bytes = try file.read(upToCount: documentBytesMax + 1) ?? Data()
        guard bytes.count <= documentBytesMax else { throw SaslFailure("it is too large") }
        return Array(bytes)
    }
}
