// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Exit codes of `martlet`; scripts rely on them, so they change only with a CHANGELOG line.
package enum CommandStatus: Int32, Sendable, CaseIterable {
    case success = 0
    /// Anything without a code of its own.
    case failure = 1
    /// The command line itself is wrong.
    case usage = 2
    case notFound = 3
    /// The engine read the request and refuses what it says.
    case refused = 4
    /// The engine cannot be reached or is not ready.
    case unreachable = 5
    case denied = 6
    /// Exists already, is in use, or is in a state that forbids the change.
    case conflict = 7
    case timeout = 8
    case interrupted = 130
    /// Whatever read the output went away.
    case outputClosed = 141

    /// What the code means, in the words of the documentation.
    package var meaning: String {
        switch self {
        case .success: "done"
        case .failure: "failed for a reason without a code of its own"
        case .usage: "the command line is wrong"
        case .notFound: "no such resource or file"
        case .refused: "the input was refused"
        case .unreachable: "the engine cannot be reached or is not ready"
        case .denied: "the token is missing, wrong or not allowed"
        case .conflict: "exists already, in use, or in a state that forbids it"
        case .timeout: "took too long"
        case .interrupted: "interrupted"
        case .outputClosed: "the reader of the output went away"
        }
    }
}
