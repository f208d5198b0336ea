// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// What went wrong, in words for the person who runs the benchmark.
struct BenchmarkError: Error, CustomStringConvertible {
    var message: String
    var description: String { message }
}
