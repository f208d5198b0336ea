// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import GRPCCore
import MartletCore

/// Turns away callers whose metadata have no `authorization: Bearer <token>`.
///
/// Health checks are answered without it, as `/healthz` is.
struct TokenInterceptor: ServerInterceptor {
    private static let openServices = ["grpc.health.v1.Health"]
    /// Methods that change nothing; Subscribe itself refuses readers what changes something.
    private static let readMethods: Set<String> = [
        "martlet.v1.Topics/ListTopics", "martlet.v1.Topics/GetTopic", "martlet.v1.Groups/ListGroups",
        "martlet.v1.Groups/GetGroup", "martlet.v1.Subscriber/Subscribe",
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ]
    private static let readerKey = "martlet-reader"

    private let token: [UInt8]
    /// A token that may only read.
    private let readToken: [UInt8]?

    /// Nil where no token is asked for.
    init?(_ configuration: GRPCConfiguration) {
        guard let token = configuration.token else { return nil }
        self.token = Array(token.utf8)
        readToken = configuration.readToken.map { Array($0.utf8) }
    }

    /// Whether the interceptor has let a caller through who may only read.
    static func isReader(_ metadata: Metadata) -> Bool {
        metadata[stringValues: readerKey].contains { _ in true }
    }

    /// Whether everybody may call the method of an HTTP/2 path.
    static func isOpen(_ path: String) -> Bool {
        openServices.contains { path.hasPrefix("/\($0)/") }
    }

    /// Who a caller is by what it shows; nil for nobody.
    enum Caller {
        case owner
        case reader
    }

    /// Who shows these words, `Bearer <token>`, each compared in constant time.
    func caller(_ authorization: String?) -> Caller? {
        guard let given = authorization, given.prefix(7).lowercased() == "bearer " else { return nil }
        let shown = Array(given.dropFirst(7).drop { $0 == " " }.utf8)
        let isReader = readToken.map { SecretText.areEqual(shown, $0) } ?? false
        if SecretText.areEqual(shown, token) { return .owner }
        return isReader ? .reader : nil
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
        let given = request.metadata[stringValues: "authorization"].first { _ in true }
        switch caller(given) {
        case .owner: return try await next(request, context)
        case .reader:
            guard Self.readMethods.contains(context.descriptor.fullyQualifiedMethod) else {
                throw RPCError(
                    code: .permissionDenied,
                    message: "this token may only read; what changes something takes the engine's own token"
                )
            }
            var request = request
            request.metadata.replaceOrAddString("true", forKey: Self.readerKey)
            return try await next(request, context)
        case nil:
            throw RPCError(
                code: .unauthenticated,
                message: given?.prefix(7).lowercased() == "bearer "
                    ? "the bearer token is wrong"
                    : "this engine needs a bearer token; send it as metadata 'authorization: Bearer <token>'"
            )
        }
    }
}
