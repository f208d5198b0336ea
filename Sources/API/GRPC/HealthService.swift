// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import GRPCCore
package import OTLP
import ServiceLifecycle
import SwiftProtobuf

/// gRPC's standard health check, over what `/readyz` says.
package struct HealthService: Grpc_Health_V1_Health.SimpleServiceProtocol {
    private static let watchInterval = Duration.seconds(1)

    private let services: Set<String>
    private let isReady: @Sendable () async -> Bool

    /// Makes the service.
    ///
    /// - Parameters:
    ///   - services: Full names of the services that may be asked for; all are as well as the engine is.
    ///   - isReady: Whether the engine can work.
    package init(services: [String], isReady: @escaping @Sendable () async -> Bool) {
        self.services = Set(services)
        self.isReady = isReady
    }

    package func check(
        request: Grpc_Health_V1_HealthCheckRequest,
        context: ServerContext
    ) async throws -> Grpc_Health_V1_HealthCheckResponse {
        guard request.service.isEmpty || services.contains(request.service) else {
            throw RPCError(
                code: .notFound,
                message:
                    "there is no such service; ask for one that reflection lists, or with the empty name for the engine as a whole"
            )
        }
        return await response()
    }

    package func list(
        request: Grpc_Health_V1_HealthListRequest,
        context: ServerContext
    ) async throws -> Grpc_Health_V1_HealthListResponse {
        let response = await response()
        return .with { answer in
            for name in services.union([""]) { answer.statuses[name] = response }
        }
    }

    package func watch(
        request: Grpc_Health_V1_HealthCheckRequest,
        response writer: RPCWriter<Grpc_Health_V1_HealthCheckResponse>,
        context: ServerContext
    ) async throws {
        let isKnown = request.service.isEmpty || services.contains(request.service)
        // A stream that nobody ends must not keep the engine from stopping.
        try await cancelWhenGracefulShutdown {
            var last: Grpc_Health_V1_HealthCheckResponse?
            while !context.cancellation.isCancelled {
                let now = isKnown ? await response() : .with { $0.status = .serviceUnknown }
                if now != last { try await writer.write(now) }
                last = now
                try await Task.sleep(for: Self.watchInterval)
            }
        }
    }

    private func response() async -> Grpc_Health_V1_HealthCheckResponse {
        let isReady = await isReady()
        return .with { $0.status = isReady ? .serving : .notServing }
    }
}
