// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Logging
import NIOCore
import NIOPosix
import NIOSSL

extension KafkaServer {
    /// Seconds after which certificates that were replaced are used.
    private static let certificateSeconds = 5

    /// Reads certificate and key, where connections are encrypted.
    func readCertificates() async throws -> TLSContext? {
        guard let settings = door.security.tls else { return nil }
        return try await NIOThreadPool.singleton.runIfActive { try TLSContext(settings) }
    }

    /// Uses certificates that were replaced for new connections, until cancelled.
    func followCertificates(_ tls: TLSContext) async {
        while (try? await Task.sleep(for: .seconds(Self.certificateSeconds))) != nil {
            do {
                guard try await NIOThreadPool.singleton.runIfActive({ try tls.reload() }) else { continue }
                door.logger.notice(
                    "the Kafka certificate was read again",
                    metadata: ["file": "\(tls.settings.certificate)"]
                )
            } catch {
                door.logger.error(
                    "the Kafka certificate has changed and cannot be used; the one before stays",
                    // What it says and what to do about it, in one line.
                    metadata: ["error": "\("\(error)".split(separator: "\n").joined(separator: ";"))"]
                )
            }
        }
    }
}

extension KafkaDoor {
    /// What a new connection knows of its client; where that has to say who it is, it has some time for it.
    func login(_ channel: any Channel, _ pending: PendingLogins) -> Login {
        guard security.authenticator != nil || security.tls != nil else { return Login(nil) }
        let logger = logger
        let login = Login(security.authenticator)
        let settled = pending.begin(channel, isAtWork: { login.isAtWork }) {
            logger.info(
                "a Kafka connection was closed: its client did not log in in time",
                metadata: ["peer": "\(channel.peer)"]
            )
        }
        login.whenSettled(settled)
        return login
    }
}

extension ChannelPipeline.SynchronousOperations {
    /// Adds what encrypts.
    func encrypt(_ tls: TLSContext, _ login: Login, _ logger: Logger) throws {
        try addHandler(NIOSSLServerHandler(context: tls.current))
        try addHandler(TLSGreeting(tls.settings, login, logger: logger))
        try addHandler(FileRegionReader())
    }
}
