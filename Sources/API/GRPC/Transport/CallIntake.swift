// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DequeModule
import RequestLimits
import Synchronization

/// Messages of one call that were handed to its service, which has not done with them.
///
/// Shared by the ``CallIntakeHandler``, which hands them over, and the ``IntakeInterceptor``, which sees them being asked for.
package final class CallIntake: Sendable {
    /// Bytes with the service from which on it is given no more, but for a single message.
    package static let bytesMax = 1 << 20

    private struct Message {
        let bytes: Int
        let loan: RequestLoan?
    }

    private struct State {
        var messages: Deque<Message> = []
        var bytes = 0
        /// Bytes of those without a loan.
        var freeBytes = 0
        var hasMany = false
        /// Called once, when there is room again.
        var whenRoom: (@Sendable () -> Void)?
    }

    private let state = Mutex(State())

    /// Whether the call may have more than one message, so that it rests between them for as long as it likes.
    package var hasMany: Bool {
        get { state.withLock(\.hasMany) }
        set { state.withLock { $0.hasMany = newValue } }
    }

    /// Whether a message of so many bytes needs memory of its own, because those without are many already.
    func needsLoan(_ bytes: Int) -> Bool {
        state.withLock { $0.freeBytes + bytes > RequestMemory.freeBytes }
    }

    /// Takes in a message that is about to be handed over; false where there is no room, and then `whenRoom` is called when there is.
    func add(_ bytes: Int, _ loan: RequestLoan?, whenRoom: @escaping @Sendable () -> Void) -> Bool {
        state.withLock { state in
            guard state.messages.isEmpty || state.bytes + bytes <= Self.bytesMax else {
                state.whenRoom = whenRoom
                return false
            }
            state.messages.append(Message(bytes: bytes, loan: loan))
            state.bytes += bytes
            if loan == nil { state.freeBytes += bytes }
            return true
        }
    }

    /// The service has done with the first of them.
    package func used() {
        let (message, bell) = state.withLock { state -> (Message?, (@Sendable () -> Void)?) in
            guard let first = state.messages.popFirst() else { return (nil, nil) }
            state.bytes -= first.bytes
            if first.loan == nil { state.freeBytes -= first.bytes }
            defer { state.whenRoom = nil }
            return (first, state.whenRoom)
        }
        // Its memory is given back here, outside of the lock.
        _ = message
        bell?()
    }

    /// The call is over.
    func end() {
        let messages = state.withLock { state in
            defer {
                state.messages = []
                state.whenRoom = nil
            }
            return state.messages
        }
        _ = messages
    }
}
