// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import GRPCCore
import MartletCore

/// Turns away callers whose metadata have no `authorization: Bearer <token>`.
///
/// Health checks are answered without it, as `/healthz` is.
struct TokenInterceptor: ServerInterceptor {
    private static let openServices = ["grpc.health.v1.Health"]

    private let token: [UInt8]
    /// A token that may only read, which no call over gRPC does but health checks.
    private let readToken: [UInt8]?

    init(token: String, readToken: String? = nil) {
        self.token = Array(token.utf8)
        self.readToken = readToken.map { Array($0.utf8) }
    }

    func intercept<Input: Sendable, Output: Sendable>(
        request: StreamingServerRequest<Input>,
        context: ServerContext,
        next:
            @concurrent @Sendable (StreamingServerRequest<Input>, ServerContext) async throws ->
            StreamingServerResponse<Output>
    ) async throws -> StreamingServerResponse<Output> {
        if Self.openServices.contains(context.descriptor.service.fullyQualifiedService) {
            return try await next(request, context)
        }
        guard let given = request.metadata[stringValues: "authorization"].first(where: { _ in true }),
            given.prefix(7).lowercased() == "bearer "
        else {
            throw RPCError(
                code: .unauthenticated,
                message: "this engine needs a bearer token; send it as metadata 'authorization: Bearer <token>'"
            )
        }
        let shown = Array(given.dropFirst(7).drop { $0 == " " }.utf8)
        let isReader = readToken.map { SecretText.areEqual(shown, $0) } ?? false
        guard SecretText.areEqual(shown, token) else {
            if isReader {
                throw RPCError(
                    code: .permissionDenied,
                    message: "this token may only read; sending telemetry takes the engine's own token"
                )
            }
            throw RPCError(code: .unauthenticated, message: "the bearer token is wrong")
        }
        return try await next(request, context)
    }
}
