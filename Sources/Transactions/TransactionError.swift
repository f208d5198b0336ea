// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Why a transaction's step was refused.
package struct TransactionError: Error, Sendable, CustomStringConvertible {
    /// The kinds of refusal; the numbers are the Kafka protocol's.
    package enum Code: Int16, Sendable, CaseIterable {
        /// The decision cannot be stored now; try again.
        case coordinatorNotAvailable = 15
        /// The request makes no sense, whatever the state.
        case invalidRequest = 42
        /// The step does not fit what the transaction has come to.
        case invalidTxnState = 48
        /// The transactional id has another producer id, or none.
        case invalidProducerIDMapping = 49
        /// The timeout is above the limit, or not above 0.
        case invalidTransactionTimeout = 50
        /// The transaction before is being finished; try again.
        case concurrentTransactions = 51
        /// A newer epoch has taken this one's place. Doors answer requests of versions that do not know this number with
        /// 47, INVALID_PRODUCER_EPOCH.
        case producerFenced = 90
        /// There is no such transactional id.
        case transactionalIDNotFound = 105
    }

    /// The kind of refusal.
    package let code: Code
    /// What happened, with the offending value.
    package let message: String

    /// Creates an error.
    package init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    package var description: String { "\(code): \(message)" }
}
