// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Identity
import NIOCore
import Synchronization

/// Connections of clients that are not known yet: few, and not for long.
///
/// Where there are too many the oldest gives way, of the place that has the most: so whoever opens connections and says nothing keeps
/// nobody out.
final class PendingLogins: Sendable {
    private struct State {
        var next: UInt64 = 0
        var connections: [UInt64: (channel: any Channel, place: String)] = [:]
        var counts: [String: Int] = [:]

        mutating func remove(_ number: UInt64) -> (any Channel)? {
            guard let (channel, place) = connections.removeValue(forKey: number) else { return nil }
            counts[place] = counts[place].flatMap { $0 > 1 ? $0 - 1 : nil }
            return channel
        }

        mutating func makeRoom() -> (any Channel)? {
            let most = counts.values.max()
            return connections.filter { counts[$0.value.place] == most }.keys.min().flatMap { remove($0) }
        }
    }

    private let most: Int
    private let state = Mutex(State())

    init(most: Int) {
        self.most = max(1, most)
    }

    /// Takes a connection in; what is returned is called when it is known who the client is.
    ///
    /// `isAtWork` says whether the engine works at the login, the time of which is not the client's.
    func begin(
        _ channel: any Channel,
        isAtWork: @escaping @Sendable () -> Bool,
        onTimeout: @escaping @Sendable () -> Void
    ) -> @Sendable () -> Void {
        let place = ClientAddress.network(channel.clientAddress)
        let (number, oldest) = state.withLock { state in
            let oldest = state.connections.count < most ? nil : state.makeRoom()
            state.next += 1
            state.connections[state.next] = (channel, place)
            state.counts[place, default: 0] += 1
            return (state.next, oldest)
        }
        oldest?.close(promise: nil)
        // Each second counts that the client is waited for.
        let second = TimeAmount.seconds(1)
        let left = NIOLoopBoundBox(KafkaSecurity.loginSeconds, eventLoop: channel.eventLoop)
        let timer = channel.eventLoop.scheduleRepeatedTask(initialDelay: second, delay: second) { timer in
            if !isAtWork() { left.value -= 1 }
            guard left.value <= 0 else { return }
            timer.cancel()
            onTimeout()
            channel.close(promise: nil)
        }
        let end: @Sendable () -> Void = { [self] in
            timer.cancel()
            state.withLock { _ = $0.remove(number) }
        }
        channel.closeFuture.whenComplete { _ in end() }
        return end
    }
}
