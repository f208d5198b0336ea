// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import GRPCCore
package import OTLP
import SwiftProtobuf

/// gRPC's standard health check, over what `/readyz` says.
package struct HealthService: Grpc_Health_V1_Health.SimpleServiceProtocol {
    private static let watchInterval = Duration.seconds(1)

    private let isReady: @Sendable () async -> Bool

    /// Makes the service.
    ///
    /// - Parameter isReady: Whether the engine can work.
    package init(isReady: @escaping @Sendable () async -> Bool) {
        self.isReady = isReady
    }

    package func check(
        request: Grpc_Health_V1_HealthCheckRequest,
        context: ServerContext
    ) async throws -> Grpc_Health_V1_HealthCheckResponse {
        guard request.service.isEmpty else {
            throw RPCError(
                code: .notFound,
                message: "the engine is well or not as a whole; ask for the service with the empty name"
            )
        }
        return await response()
    }

    package func list(
        request: Grpc_Health_V1_HealthListRequest,
        context: ServerContext
    ) async throws -> Grpc_Health_V1_HealthListResponse {
        let response = await response()
        return .with { $0.statuses = ["": response] }
    }

    package func watch(
        request: Grpc_Health_V1_HealthCheckRequest,
        response writer: RPCWriter<Grpc_Health_V1_HealthCheckResponse>,
        context: ServerContext
    ) async throws {
        var last: Grpc_Health_V1_HealthCheckResponse?
        while !context.cancellation.isCancelled {
            let now = request.service.isEmpty ? await response() : .with { $0.status = .serviceUnknown }
            if now != last { try await writer.write(now) }
            last = now
            try await Task.sleep(for: Self.watchInterval)
        }
    }

    private func response() async -> Grpc_Health_V1_HealthCheckResponse {
        let isReady = await isReady()
        return .with { $0.status = isReady ? .serving : .notServing }
    }
}
