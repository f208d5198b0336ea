// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Identity
import Logging
import MartletCore
import NIOCore
import NIOPosix
import NIOSSL
import NIOTLS
import Synchronization

/// How connections are encrypted.
package struct TLSSettings: Sendable {
    /// PEM file with the server's certificate, and those between it and an authority.
    package var certificate: String
    /// PEM file with its key.
    package var key: String
    /// PEM file with the authorities of clients' certificates; nil asks for none.
    package var clientAuthorities: String?
    /// Whether a client without a certificate is turned away.
    package var requiresClientCertificate = false
    /// What of a client's certificate is its name.
    package var subject = CertificateSubject.Rule.subject

    /// Names the server's certificate and key.
    package init(certificate: String, key: String) {
        self.certificate = certificate
        self.key = key
    }
}

/// Certificate and key as they are in their files; read again when those change.
final class TLSContext: Sendable {
    private struct State {
        var context: NIOSSLContext
        var stamp: [FileStamp?]
    }

    /// When a file changed, to tell one content from another.
    private struct FileStamp: Equatable {
        let seconds: Int
        let nanoseconds: Int
        let inode: UInt64
        let bytes: Int64
    }

    let settings: TLSSettings
    private let state: Mutex<State>

    /// Reads the files; blocks.
    ///
    /// - Throws: `ServiceError` `.failedPrecondition` naming the setting.
    init(_ settings: TLSSettings) throws {
        self.settings = settings
        let stamp = Self.stamp(settings)
        state = Mutex(State(context: try Self.read(settings), stamp: stamp))
    }

    var current: NIOSSLContext { state.withLock { $0.context } }

    /// Reads files that have changed; connections that are open keep what they have.
    ///
    /// Blocks.
    ///
    /// - Returns: Whether they had changed.
    /// - Throws: Where they cannot be used; then those from before stay.
    func reload() throws -> Bool {
        let stamp = Self.stamp(settings)
        guard state.withLock({ $0.stamp != stamp }) else { return false }
        // Kept also where reading fails, so that a broken file is reported once and not every few seconds.
        state.withLock { $0.stamp = stamp }
        let context = try Self.read(settings)
        state.withLock { $0.context = context }
        return true
    }

    private static func read(_ settings: TLSSettings) throws -> NIOSSLContext {
        func read<R>(_ key: String, _ path: String, _ body: (String) throws -> R) throws -> R {
            do {
                return try body(path)
            } catch {
                throw ServiceError(
                    .failedPrecondition,
                    "\(key): \(path) cannot be used: \(tlsText(of: error))",
                    fix: "name a readable PEM file"
                )
            }
        }
        let chain = try read("kafka.tls.certificate", settings.certificate) { try NIOSSLCertificate.fromPEMFile($0) }
        let key = try read("kafka.tls.key", settings.key) { try NIOSSLPrivateKey(file: $0, format: .pem) }
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: chain.map { .certificate($0) },
            privateKey: .privateKey(key)
        )
        configuration.minimumTLSVersion = .tlsv12
        if let path = settings.clientAuthorities {
            let authorities = try read("kafka.tls.client-ca", path) { try NIOSSLCertificate.fromPEMFile($0) }
            configuration.trustRoots = .certificates(authorities)
            configuration.certificateVerification =
                settings.requiresClientCertificate ? .noHostnameVerification : .optionalVerification
        }
        do {
            return try NIOSSLContext(configuration: configuration)
        } catch {
            throw ServiceError(
                .failedPrecondition,
                "kafka.tls.certificate and kafka.tls.key cannot be used together: \(tlsText(of: error))",
                fix: "name a certificate and the key that belongs to it"
            )
        }
    }

    private static func stamp(_ settings: TLSSettings) -> [FileStamp?] {
        [settings.certificate, settings.key, settings.clientAuthorities].compactMap(\.self).map { path in
            var status = stat()
            guard stat(path, &status) == 0 else { return nil }
            return FileStamp(
                seconds: status.st_mtim.tv_sec,
                nanoseconds: status.st_mtim.tv_nsec,
                inode: UInt64(status.st_ino),
                bytes: Int64(status.st_size)
            )
        }
    }
}

/// Waits until a connection is encrypted, and finds whom the client's certificate names.
final class TLSGreeting: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer

    private let settings: TLSSettings
    private let login: Login
    private let logger: Logger

    init(_ settings: TLSSettings, _ login: Login, logger: Logger) {
        self.settings = settings
        self.login = login
        self.logger = logger
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .handshakeCompleted? = event as? TLSUserEvent {
            let certificate = try? context.pipeline.syncOperations.nioSSL_peerCertificate()
            let name = (try? certificate?.toDERBytes()).flatMap { CertificateSubject.name(of: $0, settings.subject) }
            if certificate != nil, name == nil {
                logger.info(
                    "a Kafka connection was closed: its client's certificate names nobody",
                    metadata: ["peer": "\(context.channel.peer)"]
                )
                context.close(promise: nil)
                return
            }
            login.encrypted(name.map { Principal(name: $0) })
        }
        context.fireUserInboundEventTriggered(event)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if error is NIOSSLError || error is BoringSSLError {
            logger.info(
                "a Kafka connection was closed: it could not be encrypted",
                metadata: ["peer": "\(context.channel.peer)", "error": "\(tlsText(of: error))"]
            )
        }
        context.fireErrorCaught(error)
    }
}

/// What the library for TLS says, without the places in its own source at which it gave up.
private func tlsText(of error: any Error) -> String {
    "\(error)".replacing(/\ at \/[^ ,)\]]+:[0-9]+/, with: "")
}
