// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import API
import GRPCAPI
import Groups
import MartletCore

extension Engine {
    /// The gRPC server with all its services, or nil where it is switched off.
    ///
    /// - Throws: `ServiceError` where it would be open to everybody.
    func grpcServer(
        _ parts: EngineParts,
        _ status: EngineStatusService,
        _ addresses: ListeningAddresses
    ) throws -> GRPCAPIServer? {
        guard configuration.grpcEnabled else { return nil }
        var grpc = GRPCConfiguration()
        grpc.host = configuration.grpcHost ?? configuration.host
        grpc.port = configuration.grpcPort ?? (configuration.port == 0 ? 0 : configuration.port + 1)
        grpc.token = configuration.token
        grpc.readToken = configuration.readToken
        guard (0...65535).contains(grpc.port) else {
            throw ServiceError(
                .failedPrecondition,
                "port \(grpc.port) for gRPC is out of range",
                fix: "choose a port from 1 to 65535 with grpc.port"
            )
        }
        guard APIConfiguration.isLoopback(grpc.host) || grpc.token != nil else {
            throw ServiceError(
                .failedPrecondition,
                "refusing to listen for gRPC on \(grpc.host): everybody who can reach that address could use the engine",
                fix:
                    "set a bearer token (MARTLET_TOKEN, for example from: openssl rand -hex 32), or listen on 127.0.0.1"
            )
        }
        let host = grpc.host
        let broker = BrokerServices.all(
            log: parts.stores.log,
            topics: parts.topics,
            groups: GroupService(coordinator: parts.groups, log: parts.stores.log),
            subscriptions: parts.subscriptions,
            isReady: { await status.obstacles().isEmpty },
            explain: { $0.asServiceError }
        )
        return GRPCAPIServer(
            configuration: grpc,
            services: OTLPExportServices.all(parts.otlp) + broker,
            logger: logger,
            onListening: { port in addresses.grpcListens(host, port) }
        )
    }
}
