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
        var mechanism: SaslMechanism?
        /// Whether the next frame is a message of the login and no request, as after the first version of SaslHandshake.
        var takesToken = false
        /// What to call when it is known for the first time who the client is.
        var onSettled: (@Sendable () -> Void)?
    }

    let authenticator: Authenticator?
    private let state: Mutex<State>

    /// `onSettled` is called once, when it is known who the client is.
    init(_ authenticator: Authenticator?, onSettled: (@Sendable () -> Void)? = nil) {
        self.authenticator = authenticator
        state = Mutex(State(onSettled: onSettled))
    }

    /// Who the client is; nil where it has not said so, or no longer.
    var principal: Principal? {
        guard let authenticator else { return state.withLock { $0.certificate } ?? .anonymous }
        let (success, endsAt) = state.withLock { ($0.success, $0.endsAt) }
        guard let success, endsAt.map({ .now < $0 }) ?? true, authenticator.isCurrent(success) else { return nil }
        return success.principal
    }

    /// Whether it was ever known who the client is.
    var isSettled: Bool { authenticator == nil || state.withLock { $0.success != nil } }

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

    /// Begins a login; false where the mechanism is not offered, or is another than that of the login before.
    func begin(_ mechanism: String, withTokens takesToken: Bool) -> Bool {
        guard let exchange = authenticator?.begin(mechanism) else { return false }
        return state.withLock { state in
            guard state.mechanism == nil || state.mechanism == exchange.mechanism else { return false }
            state.mechanism = exchange.mechanism
            state.exchange = exchange
            state.takesToken = takesToken
            return true
        }
    }

    /// Takes the login that is under way; ``put(back:)`` brings it back.
    func takeExchange() -> SaslExchange? {
        state.withLock { state in
            defer { state.exchange = nil }
            return state.exchange
        }
    }

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
