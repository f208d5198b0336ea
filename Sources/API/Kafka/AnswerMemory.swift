// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// How many bytes of answers are held until clients have taken them, over all connections.
///
/// Stretches of files cost nothing. Where memory is short, records are sent from their files and requests begin later. A client that
/// does not take its answers is closed, so what answers hold becomes free again; whoever makes an answer must not wait for anything else
/// while it holds some.
final class AnswerMemory: Sendable {
    private struct State {
        var held = 0
        var waiting: [@Sendable () -> Void] = []
    }

    private let state = Mutex(State())
    private let total: Int

    init(bytes: Int) {
        total = bytes
    }

    /// Whether no further answer should be begun.
    var isFull: Bool { state.withLock { $0.held >= total } }

    /// Bytes held now.
    var heldBytes: Int { state.withLock { $0.held } }

    /// Takes `bytes`, whether or not they are there: for an answer that exists.
    func hold(_ bytes: Int) -> AnswerLoan {
        state.withLock { $0.held += bytes }
        return AnswerLoan(memory: self, bytes: bytes)
    }

    /// Takes as many bytes as there are, at most `bytes`: for an answer yet to be made.
    func take(upTo bytes: Int) -> AnswerLoan {
        let taken = state.withLock { state in
            let taken = max(0, min(bytes, total - state.held))
            state.held += taken
            return taken
        }
        return AnswerLoan(memory: self, bytes: taken)
    }

    /// Calls `call` when there is some memory again; false, and no call, where there is some now.
    func wait(_ call: @escaping @Sendable () -> Void) -> Bool {
        state.withLock { state in
            guard state.held >= total else { return false }
            state.waiting.append(call)
            return true
        }
    }

    fileprivate func change(by bytes: Int) {
        let woken = state.withLock { state -> [@Sendable () -> Void] in
            state.held += bytes
            guard state.held < total else { return [] }
            defer { state.waiting = [] }
            return state.waiting
        }
        for call in woken { call() }
    }
}

/// What one answer has of the ``AnswerMemory``; given back when the last reference goes.
final class AnswerLoan: Sendable {
    private let memory: AnswerMemory
    private let held: Mutex<Int>

    var bytes: Int { held.withLock { $0 } }

    fileprivate init(memory: AnswerMemory, bytes: Int) {
        self.memory = memory
        held = Mutex(bytes)
    }

    deinit { memory.change(by: -bytes) }

    /// Makes it `bytes`: what the answer turned out to have.
    func set(_ bytes: Int) {
        let change = held.withLock { held in
            defer { held = bytes }
            return bytes - held
        }
        if change != 0 { memory.change(by: change) }
    }
}
