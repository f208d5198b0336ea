// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import NIOCore
import Synchronization

/// Connections of clients that are not known yet: few, and not for long.
///
/// Where there are too many the oldest gives way, so that whoever opens connections and says nothing keeps nobody out.
final class PendingLogins: Sendable {
    private struct State {
        var next: UInt64 = 0
        var channels: [UInt64: any Channel] = [:]
    }

    private let most: Int
    private let state = Mutex(State())

    init(most: Int) {
        self.most = max(1, most)
    }

    /// Takes a connection in; what is returned is called when it is known who the client is.
    func begin(_ channel: any Channel, onTimeout: @escaping @Sendable () -> Void) -> @Sendable () -> Void {
        let (number, oldest) = state.withLock { state in
            let oldest =
                state.channels.count < most
                ? nil : state.channels.keys.min().flatMap { state.channels.removeValue(forKey: $0) }
            state.next += 1
            state.channels[state.next] = channel
            return (state.next, oldest)
        }
        oldest?.close(promise: nil)
        let timer = channel.eventLoop.scheduleTask(in: .seconds(KafkaSecurity.loginSeconds)) {
            onTimeout()
            channel.close(promise: nil)
        }
        let end: @Sendable () -> Void = { [self] in
            timer.cancel()
            state.withLock { _ = $0.channels.removeValue(forKey: number) }
        }
        channel.closeFuture.whenComplete { _ in end() }
        return end
    }
}
