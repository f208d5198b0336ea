// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Identity
import KafkaCodec
import Logging
import NIOCore

// Logging in: SaslHandshake names a mechanism, SaslAuthenticate carries its messages.
extension KafkaDoor {
    /// Whether a client may call an API at all; nothing but logging in before it is known who it is.
    func admits(_ head: RequestHead, _ session: KafkaSession) -> Bool {
        if let api = head.header.api, [.apiVersions, .saslHandshake, .saslAuthenticate].contains(api) { return true }
        guard session.login.principal == nil else { return true }
        logger.info(
            "a Kafka connection was closed: its client has not logged in, or its login has ended",
            metadata: ["peer": "\(session.peer)", "api": "\(head.header.apiKey)"]
        )
        return false
    }

    func saslHandshake(_ call: Call) throws -> ResponseQueue.Answer {
        let request = try call.head.body(call.frame, as: SaslHandshakeRequest.self)
        let offered = call.session.login.authenticator?.settings.mechanisms.map(\.rawValue) ?? []
        if call.session.login.begin(request.mechanism, peer: call.session.peer, withTokens: call.version == 0) {
            return try call.head.answer(SaslHandshakeResponse(mechanisms: offered))
        }
        logger.info(
            "a Kafka client wants to log in as is not offered",
            metadata: [
                "peer": "\(call.session.peer)", "mechanism": "\(Authenticator.printable(request.mechanism))",
                "offered": "\(offered.joined(separator: ","))",
            ]
        )
        return try call.head.lastAnswer(
            SaslHandshakeResponse(errorCode: .unsupportedSaslMechanism, mechanisms: offered)
        )
    }

    func saslAuthenticate(_ call: Call) async throws -> ResponseQueue.Answer {
        let request = try call.head.body(call.frame, as: SaslAuthenticateRequest.self)
        switch try await logIn(request.authBytes, call.session) {
        case .goOn(let bytes):
            return try call.head.answer(SaslAuthenticateResponse(authBytes: bytes))
        case .done(let bytes, let lifetime):
            return try call.head.answer(SaslAuthenticateResponse(authBytes: bytes, sessionLifetimeMs: lifetime))
        case .failed(let code):
            let message = code == .illegalSaslState ? "there is no login under way" : "Authentication failed"
            return try call.head.lastAnswer(SaslAuthenticateResponse(errorCode: code, errorMessage: message))
        case .refused(let message):
            // Not the code of a failure, after which the Java client gives up: this one it tries again.
            return try call.head.lastAnswer(
                SaslAuthenticateResponse(errorCode: .throttlingQuotaExceeded, errorMessage: message)
            )
        }
    }

    /// A message of a login that is no request.
    func answerToken(_ frame: ByteBuffer, _ session: KafkaSession) async -> ResponseQueue.Answer {
        do {
            switch try await logIn(Array(frame.readableBytesView), session) {
            case .goOn(let bytes), .done(let bytes, _):
                var answer = ByteBuffer()
                answer.writeInteger(Int32(bytes.count))
                answer.writeBytes(bytes)
                return .parts([.bytes(answer)])
            case .failed, .refused: return .close([])
            }
        } catch {
            logger.error("a Kafka login failed", metadata: ["peer": "\(session.peer)", "error": "\(error)"])
            return .close([])
        }
    }

    private enum Outcome {
        case goOn([UInt8])
        case done([UInt8], lifetimeMilliseconds: Int64)
        case failed(KafkaErrorCode)
        case refused(String)
    }

    private func logIn(_ message: [UInt8], _ session: KafkaSession) async throws -> Outcome {
        let login = session.login
        guard let authenticator = login.authenticator, var exchange = login.takeExchange() else {
            return .failed(.illegalSaslState)
        }
        defer { login.rest() }
        guard message.count <= KafkaSecurity.loginBytesMax else { return .failed(.saslAuthenticationFailed) }
        switch try await exchange.respond(message) {
        case .challenge(let bytes):
            login.put(back: exchange)
            return .goOn(bytes)
        case .done(let bytes, let success):
            let now = ContinuousClock.now
            let byToken = success.expiresAt.map { Duration.seconds($0.timeIntervalSinceNow) }
            let lifetime = [byToken, authenticator.settings.sessionLifetime].compactMap(\.self).min()
            guard login.succeed(success, endsAt: lifetime.map { now + $0 }) else {
                authenticator.failed(
                    SaslFailure("the client logged in again as somebody else"),
                    user: success.principal.name,
                    exchange.mechanism,
                    peer: session.peer
                )
                return .failed(.saslAuthenticationFailed)
            }
            authenticator.succeeded(success.principal, exchange.mechanism, peer: session.peer)
            // 0 would mean that it never ends.
            let milliseconds = lifetime.map {
                max(1, $0.components.seconds * 1000 + $0.components.attoseconds / 1_000_000_000_000_000)
            }
            return .done(bytes, lifetimeMilliseconds: milliseconds ?? 0)
        case .failed(let failure, let user):
            authenticator.failed(failure, user: user, exchange.mechanism, peer: session.peer)
            return .failed(.saslAuthenticationFailed)
        case .refused(let message):
            authenticator.refused(exchange.mechanism, peer: session.peer)
            return .refused(message)
        }
    }
}

extension RequestHead {
    /// The response as it is sent, and the end of the connection.
    func lastAnswer(_ response: some KafkaResponse) throws(KafkaCodecError) -> ResponseQueue.Answer {
        let frame = try response.frame(correlationID: header.correlationID, version: version)
        return .close([.bytes(ByteBuffer(bytes: frame.bytes))])
    }
}
