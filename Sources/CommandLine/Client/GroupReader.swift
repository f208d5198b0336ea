// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore
import Synchronization

/// Reads a topic for a consumer group, as one of the readers that share its records.
final class GroupReader: Sendable {
    struct Page {
        var records: [JSONValue]
        /// Acknowledges the records, see ``done(_:)``.
        var mark: Int64
        var isAtEnd: Bool
    }

    private static let waitMilliseconds = 1000
    /// Well below the time after which the engine takes a silent reader for gone.
    private static let heartbeat = Duration.seconds(4)

    private let client: EngineClient
    private let group: String
    private let topic: String
    private let from: String?
    private let state = Mutex((id: "", mark: Int64(0)))

    init(_ group: String, _ client: EngineClient, topic: String, from: String?) {
        self.group = group
        self.client = client
        self.topic = topic
        self.from = from
    }

    /// Becomes a reader; refused where the group cannot be read by this command.
    func begin() async throws {
        var fields = FieldBuilder()
        fields.set("topic", topic)
        fields.set("from", from)
        let answer = try await client.exchange(
            APIRequest("POST", ["groups", group, "readers"], body: .json(.object(fields.object)))
        )
        let id = answer["id"]?.stringValue ?? ""
        state.withLock { $0 = (id, 0) }
    }

    /// Runs `body` while the engine is told that the reader is at work, and ends the reader.
    func reading(_ body: () async throws -> Void) async throws {
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask {
                while true {
                    try await Task.sleep(for: Self.heartbeat)
                    // Where the engine is away, the next read finds out and says so.
                    try? await self.touch()
                }
            }
            defer { tasks.cancelAll() }
            do {
                try await body()
            } catch {
                try? await end()  // What went wrong first says more; the engine ends silent readers by itself.
                throw error
            }
            try await end()
        }
    }

    /// Acknowledges what ``done(_:)`` was told of, and returns the next records.
    func page(limit: Int, stopsAtEnd: Bool, _ connection: inout Reconnection) async throws -> Page {
        let wait = min(Self.waitMilliseconds, Int(client.settings.timeout * 500))
        return try await connection.run {
            do {
                return try await self.next(limit, wait, stopsAtEnd)
            } catch let failure as CommandFailure where failure.status == .notFound {
                // The engine was started anew: what was not acknowledged comes again.
                try await self.begin()
                return try await self.next(limit, wait, stopsAtEnd)
            }
        }
    }

    /// Notes that the records of a page have been printed.
    func done(_ page: Page) { state.withLock { $0.mark = max($0.mark, page.mark) } }

    private func next(_ limit: Int, _ wait: Int, _ stopsAtEnd: Bool) async throws -> Page {
        let (id, mark) = state.withLock { $0 }
        let body: JSONValue = [
            "acknowledge": .int(mark), "limit": .int(Int64(limit)), "wait": .int(Int64(wait)),
            "stop_at_end": .bool(stopsAtEnd),
        ]
        let answer = try await client.exchange(
            APIRequest("POST", ["groups", group, "readers", id, "records"], body: .json(body)),
            isOrdered: false
        )
        return Page(
            records: EngineClient.items(answer),
            mark: answer["acknowledge"]?.intValue ?? mark,
            isAtEnd: answer["at_end"]?.boolValue ?? true
        )
    }

    private func touch() async throws {
        let id = state.withLock { $0.id }
        _ = try await client.exchange(APIRequest("PUT", ["groups", group, "readers", id]))
    }

    private func end() async throws {
        let (id, mark) = state.withLock { $0 }
        _ = try await client.exchange(
            APIRequest("DELETE", ["groups", group, "readers", id], query: [("acknowledge", "\(mark)")])
        )
    }
}
