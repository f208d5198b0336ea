// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Hummingbird
import HummingbirdCore
package import Logging
import MartletCore
import NIOCore
import NIOPosix
import ServiceLifecycle

/// The HTTP server of the REST API.
///
/// Listens while ``run()`` runs; a graceful shutdown finishes the requests at work.
package struct APIServer: Service {
    private let configuration: APIConfiguration
    private let table: RouteTable
    private let openAPI: [UInt8]
    private let logger: Logger
    private let onListening: @Sendable (_ port: Int) async -> Void

    /// Makes a server.
    ///
    /// - Throws: `ServiceError` `.failedPrecondition` where the configuration would be unsafe, above all another address than loopback
    ///   without a token.
    package init(
        configuration: APIConfiguration,
        services: Services,
        logger: Logger,
        onListening: @escaping @Sendable (_ port: Int) async -> Void = { _ in }
    ) throws {
        try configuration.check()
        self.configuration = configuration
        self.logger = logger
        self.onListening = onListening
        var routes = Route.all(services)
        let document = try OpenAPIDocument.bytes(routes + [Route.openAPI([])], configuration)
        routes.append(Route.openAPI(document))
        openAPI = document
        table = RouteTable(routes)
    }

    /// The OpenAPI document, as `/openapi.json` answers it.
    package var openAPIDocument: [UInt8] { openAPI }

    /// Method and path of every operation.
    package var operations: [(method: String, path: String)] {
        table.routes.map { ($0.method.rawValue, $0.path) }
    }

    /// Listens and serves until shut down.
    ///
    /// - Throws: `ServiceError` `.failedPrecondition` where the address cannot be listened on.
    package func run() async throws {
        let stall = TimeAmount.seconds(Int64(configuration.stallSeconds))
        let connections = ConnectionLimit(
            // Nobody new is let in at the limit, so that one has to go before.
            most: configuration.connectionsMax - max(1, configuration.connectionsMax / 8),
            limit: configuration.connectionsMax
        )
        let application = Application(
            responder: RESTResponder(table: table, configuration: configuration),
            server: .http1(
                configuration: HTTP1Channel.Configuration(
                    additionalChannelHandlers: [ConnectionGuardInstaller(stall: stall, connections: connections)],
                    idleTimeout: .seconds(Int64(configuration.idleSeconds)),
                    httpDecoderConfiguration: .init(
                        maxHeaderFieldSize: 256 << 10,
                        maxHeaderListSize: 256 << 10,
                        maxHeaderFieldCount: 200
                    )
                )
            ),
            configuration: ApplicationConfiguration(
                address: .hostname(configuration.host, port: configuration.port),
                reuseAddress: true,
                availableConnectionsDelegate: .maximum(configuration.connectionsMax, logger: logger)
            ),
            onServerRunning: { channel in await onListening(channel.localAddress?.port ?? 0) },
            logger: logger
        )
        do {
            try await application.run()
        } catch let error as IOError {
            throw listenFailure(error.errnoCode, "\(error)")
        } catch let error as NIOConnectionError {
            throw listenFailure(0, "\(error)")
        }
    }

    private func listenFailure(_ code: CInt, _ text: String) -> ServiceError {
        let address = "\(configuration.host):\(configuration.port)"
        switch code {
        case EADDRINUSE:
            return ServiceError(
                .failedPrecondition,
                "cannot listen on \(address): another program uses that port",
                fix: "stop that program (ss -ltnp shows it), or choose another port"
            )
        case EACCES:
            return ServiceError(
                .failedPrecondition,
                "cannot listen on \(address): not allowed",
                fix: "choose a port from 1024 on"
            )
        default:
            return ServiceError(
                .failedPrecondition,
                "cannot listen on \(address): \(text)",
                fix: "choose another address"
            )
        }
    }
}
