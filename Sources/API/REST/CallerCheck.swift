// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Hummingbird
import MartletCore

/// Decides who calls, and turns away whom the engine should not serve.
struct CallerCheck: Sendable {
    let configuration: APIConfiguration

    /// The caller of a request.
    ///
    /// Without a token only programs of this machine are served. A web page in a browser of this machine is not one: it shows itself
    /// by a foreign `Origin`, or, when it rebinds a name to the loopback address, by a foreign `Host`.
    func caller(_ request: Request) throws -> Caller {
        if let token = configuration.token {
            guard let given = bearer(request.headers[.authorization]) else {
                throw unauthenticated("this engine needs a bearer token")
            }
            // Both are compared whatever the first comparison says, so that the time tells nothing.
            let hasAll = SecretText.areEqual(Array(given.utf8), Array(token.utf8))
            let mayRead =
                configuration.readToken.map { SecretText.areEqual(Array(given.utf8), Array($0.utf8)) } ?? false
            if hasAll { return Caller(name: configuration.tokenCaller) }
            guard mayRead else { throw unauthenticated("the bearer token is wrong") }
            return Caller(name: configuration.readCaller, mayWrite: false)
        }
        let authority = request.head.authority?.lowercased()
        if let authority, !isOwnName(Self.host(authority)) {
            throw ServiceError(
                .forbidden,
                "the request was sent to '\(authority.prefix(100))', which is not a name of this machine's loopback address",
                fix: "use http://127.0.0.1:\(configuration.port), or set a bearer token"
            )
        }
        if let origin = request.headers[.origin]?.lowercased(), origin != "http://\(authority ?? "")" {
            throw ServiceError(
                .forbidden,
                "web pages of '\(origin.prefix(100))' may not use this engine",
                fix: "set a bearer token and send it"
            )
        }
        return Caller(name: configuration.localCaller)
    }

    /// Refuses what a caller may not do.
    func checkRight(_ caller: Caller, _ route: Route) throws {
        guard !caller.mayWrite, !route.isOpen, !route.isReading, route.method != .get, route.method != .head else {
            return
        }
        throw ServiceError(
            .forbidden,
            "this token may only read, and \(route.method.rawValue) \(route.path) changes something",
            fix: "use the token with all rights"
        )
    }

    private func bearer(_ header: String?) -> String? {
        guard let header, header.prefix(7).lowercased() == "bearer " else { return nil }
        return String(header.dropFirst(7).drop { $0 == " " })
    }

    private func unauthenticated(_ message: String) -> Refusal {
        var refusal = Refusal(
            .unauthorized,
            code: ServiceError.Code.unauthenticated.rawValue,
            ServiceError(.unauthenticated, message, fix: "send it as 'Authorization: Bearer <token>'")
        )
        refusal.headers = [("WWW-Authenticate", "Bearer")]
        return refusal
    }

    private func isOwnName(_ host: String) -> Bool {
        APIConfiguration.isLoopback(host) || host == configuration.host.lowercased()
    }

    /// The host of `host:port`, `[v6]:port` or either without a port.
    private static func host(_ authority: String) -> String {
        if authority.hasPrefix("["), let end = authority.firstIndex(of: "]") {
            return String(authority[authority.index(after: authority.startIndex)..<end])
        }
        return String(authority.prefix { $0 != ":" })
    }
}
