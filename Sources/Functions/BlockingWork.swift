// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore

/// Runs blocking file work on a thread of its own, so that the cooperative pool never waits for a disk.
enum BlockingWork {
    /// Runs `body`; what Foundation throws comes out as a `ServiceError` that names the file.
    static func run<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
        try await withCheckedThrowingContinuation { continuation in
            let thread = Thread { continuation.resume(with: Result(catching: body).mapError(serviceError)) }
            thread.name = "martlet-functions"
            thread.stackSize = 2 << 20
            thread.start()
        }
    }

    private static func serviceError(_ error: any Error) -> any Error {
        guard let error = error as? CocoaError else { return error }
        let path = error.filePath.map { " (\($0))" } ?? ""
        let code: ServiceError.Code =
            switch error.code {
            case .fileWriteOutOfSpace: .storageFull
            case .fileWriteNoPermission, .fileReadNoPermission, .fileWriteVolumeReadOnly: .failedPrecondition
            default: .internal
            }
        return ServiceError(
            code,
            "working on files failed: \(error.localizedDescription)\(path)",
            fix: "check free space and permissions of the data directory"
        )
    }
}
