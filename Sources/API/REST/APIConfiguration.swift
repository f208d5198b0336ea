// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore

/// Reads a submitted text, JSON or YAML by its content type, into a tree.
package typealias DocumentParsing = @Sendable (_ bytes: [UInt8], _ contentType: String?) throws -> Document

/// Where the server listens, whom it serves and how much it takes.
package struct APIConfiguration: Sendable {
    /// Address to listen on.
    package var host: String = "127.0.0.1"
    /// Port to listen on; 0 takes a free one.
    package var port: Int = 8070
    /// Bearer token every caller must show; required as soon as `host` is not loopback.
    package var token: String?
    /// Bearer token of callers who may only read; needs ``token`` beside it.
    package var readToken: String?
    /// Name of a caller who shows no token, kept as the owner of what they make.
    package var localCaller: String = "local"
    /// Name of a caller who shows the token.
    package var tokenCaller: String = "admin"
    /// Name of a caller who shows the token for reading.
    package var readCaller: String = "reader"
    /// Largest JSON or YAML body, in bytes.
    package var documentBytesMax = 64 << 20
    /// Largest archive of a function's folder, in bytes.
    package var archiveBytesMax = 1 << 30
    /// Largest body of events, in bytes.
    package var eventBytesMax = 256 << 20
    /// Largest body of telemetry, in bytes.
    package var telemetryBytesMax = 20 << 20
    /// Most bytes of bodies, and of what is made of them, held at once; a request beyond is answered 503.
    package var bodyBytesMax = 1536 << 20
    /// Most connections open at once; others wait in the listening queue.
    ///
    /// From seven eighths of them on, that one gives way to a further one which has had no request for the longest.
    package var connectionsMax = 512
    /// Seconds a connection may rest between requests, before its first request is read whole, or inside a body without progress.
    package var idleSeconds = 60
    /// Seconds a client may leave an answer unread before its connection is closed.
    package var stallSeconds = 30
    /// Lowest rate, in bytes a second, at which a body must arrive after its first ``idleSeconds``.
    package var bodyBytesPerSecondMin = 256 << 10
    /// Version the OpenAPI document shows.
    package var version: String = "0.1.0"
    /// Reads submitted documents.
    package var parseDocument: DocumentParsing
    /// Turns a module's own error into the services' form; nil for one it does not know.
    package var explain: @Sendable (any Error) -> ServiceError? = { _ in nil }

    /// Makes a configuration with the given parser and otherwise the defaults.
    package init(parseDocument: @escaping DocumentParsing) {
        self.parseDocument = parseDocument
    }

    /// Whether `host` can be reached from this machine only.
    package var isLoopback: Bool { Self.isLoopback(host) }

    /// Whether a host name or address means this machine only.
    package static func isLoopback(_ host: String) -> Bool {
        let name = host.lowercased()
        if name == "localhost" || name == "::1" || name == "[::1]" { return true }
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4 && parts[0] == "127" && parts.allSatisfy { UInt8($0) != nil }
    }

    /// Refuses what would be unsafe or cannot work.
    ///
    /// - Throws: `ServiceError` `.failedPrecondition`.
    package func check() throws(ServiceError) {
        guard (0...65535).contains(port) else {
            throw ServiceError(
                .failedPrecondition,
                "port \(port) is out of range",
                fix: "choose a port from 1 to 65535"
            )
        }
        for (name, token) in [("bearer token", token), ("read token", readToken)] {
            guard let token else { continue }
            let isUsable = !token.isEmpty && token.utf8.allSatisfy { (0x21...0x7E).contains($0) }
            guard isUsable else {
                throw ServiceError(
                    .failedPrecondition,
                    "the \(name) is empty or has characters that cannot be sent",
                    fix: "use printable ASCII without spaces, for example the output of: openssl rand -hex 32"
                )
            }
        }
        guard readToken == nil || token != nil, readToken != token || token == nil else {
            throw ServiceError(
                .failedPrecondition,
                token == nil
                    ? "there is a read token but no token with all rights, so nobody could change anything"
                    : "the read token and the token with all rights are the same",
                fix: "set both, to different values: MARTLET_TOKEN and MARTLET_READ_TOKEN"
            )
        }
        guard isLoopback || token != nil else {
            throw ServiceError(
                .failedPrecondition,
                "refusing to listen on \(host): everybody who can reach that address could use the engine",
                fix:
                    "set a bearer token (MARTLET_TOKEN, for example from: openssl rand -hex 32), or listen on 127.0.0.1"
            )
        }
    }
}
