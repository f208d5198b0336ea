// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Identity
import Synchronization

/// What one connection knows of who its client is.
final class Login: Sendable {
    private struct State {
        /// Whom the client's certificate names.
        var certificate: Principal?
        var success: SaslExchange.Success?
        var endsAt: ContinuousClock.Instant?
        var exchange: SaslExchange?
        /// Whether the engine has a message of the login to answer.
        var isAtWork = false
        var mechanism: SaslMechanism?
        /// Whether the next frame is a message of the login and no request, as after the first version of SaslHandshake.
        var takesToken = false
        /// What to call when it is known for the first time who the client is.
        var onSettled: (@Sendable () -> Void)?
    }

    let authenticator: Authenticator?
    private let state = Mutex(State())

    init(_ authenticator: Authenticator?) {
        self.authenticator = authenticator
    }

    /// Has `call` called once, when it is known who the client is; before anything of the client is read.
    func whenSettled(_ call: @escaping @Sendable () -> Void) { state.withLock { $0.onSettled = call } }

    /// Who the client is; nil where it has not said so, or no longer.
    var principal: Principal? {
        guard let authenticator else { return state.withLock { $0.certificate } ?? .anonymous }
        let (success, endsAt) = state.withLock { ($0.success, $0.endsAt) }
        guard let success, endsAt.map({ .now < $0 }) ?? true, authenticator.isCurrent(success) else { return nil }
        return success.principal
    }

    /// Whether it was ever known who the client is.
    var isSettled: Bool { authenticator == nil || state.withLock { $0.success != nil } }

    /// Whether it is not for the client that anybody waits.
    var isAtWork: Bool { state.withLock { $0.isAtWork } }

    var takesToken: Bool { state.withLock { $0.takesToken } }

    /// Sizes of a frame, whatever else bounds them.
    var frameBytes: ClosedRange<Int> {
        guard authenticator != nil else { return Self.requestBytesMin...Int.max }
        return state.withLock { state in
            if state.takesToken { return 1...KafkaSecurity.loginBytesMax }
            return Self.requestBytesMin...(state.success == nil ? KafkaSecurity.loginBytesMax : Int.max)
        }
    }

    /// The smallest header: key, version, correlation id.
    private static let requestBytesMin = 8

    /// The connection is encrypted, and this is whom the client's certificate names.
    func encrypted(_ certificate: Principal?) {
        state.withLock { $0.certificate = certificate }
        if authenticator == nil { settled() }
    }

    /// Begins a login; false where the mechanism is not offered or another than that of the login before, or one is under way.
    func begin(_ mechanism: String, peer: String, withTokens takesToken: Bool) -> Bool {
        guard let exchange = authenticator?.begin(mechanism, peer: peer) else { return false }
        return state.withLock { state in
            guard state.mechanism == nil || state.mechanism == exchange.mechanism else { return false }
            // One login is finished before the next begins.
            guard state.exchange == nil else { return false }
            state.mechanism = exchange.mechanism
            state.exchange = exchange
            state.takesToken = takesToken
            return true
        }
    }

    /// Takes the login that is under way, to work at it until ``rest()``; ``put(back:)`` brings it back.
    func takeExchange() -> SaslExchange? {
        state.withLock { state in
            defer { state.exchange = nil }
            state.isAtWork = state.exchange != nil
            return state.exchange
        }
    }

    func rest() { state.withLock { $0.isAtWork = false } }

    func put(back exchange: SaslExchange) { state.withLock { $0.exchange = exchange } }

    /// Keeps who the client is; false where it is somebody else than before.
    func succeed(_ success: SaslExchange.Success, endsAt: ContinuousClock.Instant?) -> Bool {
        let isSame = state.withLock { state in
            guard state.success == nil || state.success?.principal == success.principal else { return false }
            state.success = success
            state.endsAt = endsAt
            state.takesToken = false
            return true
        }
        if isSame { settled() }
        return isSame
    }

    private func settled() {
        let call = state.withLock { state in
            defer { state.onSettled = nil }
            return state.onSettled
        }
        call?()
    }
}
