// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import NIOCore
import Synchronization

/// The connections that are open, and how many calls each has.
///
/// Where there are as many as may be, the one that has gone without a call for longest is closed for a new one.
final class OpenConnections: Sendable {
    private struct Connection {
        let channel: any Channel
        var calls = 0
        var idleSince: NIODeadline
    }

    private struct State {
        var connections: [ObjectIdentifier: Connection] = [:]
        var calls = 0
    }

    private let connectionsMax: Int
    private let callsMax: Int
    private let state = Mutex(State())

    init(connectionsMax: Int, callsMax: Int) {
        self.connectionsMax = connectionsMax
        self.callsMax = callsMax
    }

    /// Takes in a connection; false where all there may be are at work.
    func add(_ channel: any Channel) -> Bool {
        let key = ObjectIdentifier(channel)
        let (isAdded, replaced) = state.withLock { state -> (Bool, (any Channel)?) in
            var replaced: (any Channel)?
            if state.connections.count >= connectionsMax {
                let idle = state.connections.filter { $0.value.calls == 0 }
                guard let oldest = idle.min(by: { $0.value.idleSince < $1.value.idleSince }) else {
                    return (false, nil)
                }
                replaced = oldest.value.channel
                state.connections[oldest.key] = nil
            }
            state.connections[key] = Connection(channel: channel, idleSince: .now())
            return (true, replaced)
        }
        replaced?.close(promise: nil)
        if isAdded { channel.closeFuture.whenComplete { [self] _ in remove(key) } }
        return isAdded
    }

    /// Takes in a call of `connection`; false where there are as many as may be.
    func addCall(_ call: any Channel, of connection: any Channel) -> Bool {
        let key = ObjectIdentifier(connection)
        let isAdded = state.withLock { state in
            guard state.calls < callsMax else { return false }
            state.calls += 1
            state.connections[key]?.calls += 1
            return true
        }
        if isAdded { call.closeFuture.whenComplete { [self] _ in removeCall(key) } }
        return isAdded
    }

    private func remove(_ key: ObjectIdentifier) {
        state.withLock { state in state.connections[key] = nil }
    }

    private func removeCall(_ key: ObjectIdentifier) {
        state.withLock { state in
            state.calls -= 1
            state.connections[key]?.calls -= 1
            state.connections[key]?.idleSince = .now()
        }
    }
}
