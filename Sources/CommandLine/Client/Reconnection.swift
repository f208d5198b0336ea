// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Asks the engine again for a minute where it goes away in the middle of a command.
struct Reconnection {
    private static let limit = Duration.seconds(60)
    private static let pauseMin = Duration.milliseconds(200)
    private static let pauseMax = Duration.seconds(2)

    private let client: EngineClient
    private let clock = ContinuousClock()
    private var hasAnswered = false

    init(_ client: EngineClient) {
        self.client = client
    }

    /// Whether the engine has answered before: an engine that was never there is not waited for.
    var isEstablished: Bool { hasAnswered }

    /// Runs a request, and again where the engine cannot be reached; `again` is told before each further attempt.
    ///
    /// - Throws: the failure of the first attempt when a minute has passed, or Ctrl-C was pressed.
    mutating func run<R>(again: () throws -> Void = {}, _ request: () async throws -> R) async throws -> R {
        var first: (failure: CommandFailure, at: ContinuousClock.Instant)?
        var pause = Self.pauseMin
        while true {
            do {
                let answer = try await request()
                if first != nil { try client.note("connected again") }
                hasAnswered = true
                return answer
            } catch let failure as CommandFailure where failure.status == .unreachable && hasAnswered {
                if first == nil { try client.note("\(failure.message); trying again") }
                let start = first ?? (failure, clock.now)
                first = start
                guard clock.now - start.at < Self.limit, !InterruptFlag.isRaised else { throw start.failure }
                try await Task.sleep(for: pause)
                pause = min(pause * 2, Self.pauseMax)
                try again()
            }
        }
    }
}
