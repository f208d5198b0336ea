// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Logging
package import NIOCore
package import RequestLimits

/// What all calls of a gRPC server share: who may send, how much, how slowly.
package struct IntakeRules: Sendable {
    /// Largest message of services that everybody may call, or that ask for a few words only.
    private static let smallMessageBytesMax = 64 << 10
    private static let smallServices = ["/grpc.health.v1.", "/grpc.reflection."]

    package let calls = OpenCalls()
    package let memory: RequestMemory
    let token: TokenInterceptor?
    let stall: TimeAmount
    let contendedStall: TimeAmount
    let bytesPerSecondMin: Int
    let logger: Logger
    private let largest: Int

    /// The rules of a server with that configuration.
    package init(_ configuration: GRPCConfiguration, logger: Logger) {
        token = TokenInterceptor(configuration)
        largest = configuration.messageBytesMax
        // A message and what it is inflated to are held at once.
        memory = RequestMemory(bytes: configuration.requestMemoryBytes, largest: 2 * largest, smallest: largest)
        stall = TimeAmount(configuration.stall)
        contendedStall = TimeAmount(configuration.contendedStall)
        bytesPerSecondMin = configuration.requestBytesPerSecondMin
        self.logger = logger
    }

    /// How often a request that rests is looked at.
    var pause: TimeAmount { .nanoseconds(max(10_000_000, min(stall.nanoseconds, contendedStall.nanoseconds) / 4)) }

    func messageBytesMax(_ path: String) -> Int {
        Self.smallServices.contains(where: path.hasPrefix) ? Self.smallMessageBytesMax : largest
    }

    /// Whether anything is read of what a caller sends; one who is turned away is told so by the ``TokenInterceptor``.
    func admits(_ path: String, _ authorization: String?) -> Bool {
        guard let token, !TokenInterceptor.isOpen(path) else { return true }
        return token.caller(authorization) != nil
    }

    /// Has a call follow these rules: what its client sends passes a ``CallIntakeHandler`` before gRPC sees it.
    ///
    /// To be called on the call's event loop.
    package func bound(_ call: any Channel) throws {
        try call.pipeline.syncOperations.addHandler(CallIntakeHandler(self), position: .first)
    }
}
