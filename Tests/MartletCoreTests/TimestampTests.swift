// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore
import Testing

@Suite struct TimestampTests {
    private static let first = "0001-01-01T00:00:00.000000Z"
    private static let last = "9999-12-31T23:59:59.999999Z"

    /// Clients choose the times of records; nanoseconds in place of milliseconds are a usual mistake.
    private static let milliseconds: [(Int64, String)] = [
        (1_775_662_889_591, "2026-04-08T15:41:29.591000Z"), (0, "1970-01-01T00:00:00.000000Z"),
        (-1, "1969-12-31T23:59:59.999000Z"), (253_402_300_799_999, "9999-12-31T23:59:59.999000Z"),
        (253_402_300_800_000, last), (1_775_662_889_591_955_000, last), (.max, last), (.min, first),
        (-62_135_596_800_000, first), (-62_135_596_800_001, first),
    ]

    @Test(arguments: milliseconds)
    func anyNumberOfMillisecondsIsATime(milliseconds: Int64, text: String) {
        #expect(Timestamp.format(microseconds: Timestamp.microseconds(milliseconds: milliseconds)) == text)
    }

    @Test(
        arguments: [(.max, last), (.min, first), (.min + 1, first), (-1, "1969-12-31T23:59:59.999999Z")]
            as [(Int64, String)]
    )
    func anyNumberOfMicrosecondsIsWritten(microseconds: Int64, text: String) {
        #expect(Timestamp.format(microseconds: microseconds) == text)
    }

    @Test(
        arguments: [
            (9.3e15, last), (1e300, last), (.infinity, last), (-9.3e15, first), (-.infinity, first), (.nan, first),
            (1.5, "1970-01-01T00:00:01.500000Z"),
        ] as [(Double, String)]
    )
    func anyDateIsWritten(seconds: Double, text: String) {
        #expect(Timestamp.format(Date(timeIntervalSince1970: seconds)) == text)
    }

    @Test(arguments: [(999, 0.001), (1000, 0), (1001, 0), (.max, 0), (.min, 62_135_596_801)] as [(Int64, Double)])
    func anyTimeHasAnAge(milliseconds: Int64, seconds: Double) {
        #expect(Timestamp.age(milliseconds: milliseconds, nowMicroseconds: 1_000_000) == seconds)
    }
}
