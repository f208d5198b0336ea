// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Bounds on statements.
package struct StatementLimits: Sendable {
    /// How many statements may work or hold rows that nobody has read, in all.
    package var openMax = 32
    /// How many of them one caller may have.
    package var openPerCallerMax = 16
    /// How many statements are remembered, those that have ended included.
    package var rememberedMax = 500
    /// How long a statement may go without being asked for before it is cancelled, or, when it has ended, forgotten.
    package var idle: Duration = .seconds(300)
    /// From how many bytes of rows a page ends before it has as many rows as were asked for.
    package var pageBytes = 8 << 20
    /// How many rows are computed ahead of the reader at least, where ``pageBytes`` allows.
    package var rowsAhead = 20_000

    /// Makes the default bounds.
    package init() {}
}
