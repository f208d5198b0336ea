// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import KafkaCodec
import MartletCore

/// When an event happened, read from its record without making text of it.
enum EventTime {
    /// Microseconds since 1970: the event's `time`, or when its record was made where it has none.
    ///
    /// A redriven event counts from when it was put back: how long it lay among the dead letters says nothing about the engine.
    static func micros(_ record: RecordView, isRedriven: Bool) -> Int64 {
        let made = Timestamp.microseconds(milliseconds: record.timestamp)
        guard !isRedriven, let time = record.header("ce_time") else { return made }
        return time.withUnsafeBufferPointer(utc) ?? Timestamp.parseMicroseconds(String(decoding: time, as: UTF8.self))
            ?? made
    }

    /// Reads `2026-04-08T15:41:29.591955Z`, with any number of decimals or none; nil for other forms.
    private static func utc(_ text: UnsafeBufferPointer<UInt8>) -> Int64? {
        guard text.count >= 20, text[text.count - 1] == 0x5A, text[4] == 0x2D, text[7] == 0x2D, text[10] == 0x54,
            text[13] == 0x3A, text[16] == 0x3A, text.count == 20 || text[19] == 0x2E
        else { return nil }
        var isNumber = true
        func digits(_ range: Range<Int>) -> Int64 {
            var value: Int64 = 0
            for index in range {
                let digit = text[index] &- 0x30
                if digit > 9 { isNumber = false }
                value = value * 10 + Int64(digit)
            }
            return value
        }
        let (year, month, day) = (digits(0..<4), digits(5..<7), digits(8..<10))
        let seconds = digits(11..<13) * 3600 + digits(14..<16) * 60 + digits(17..<19)
        var fraction: Int64 = 0
        if text.count > 21 {
            let end = min(text.count - 1, 26)
            fraction = digits(20..<end)
            for _ in end..<26 { fraction *= 10 }
        }
        guard isNumber, (1...12).contains(month), (1...31).contains(day) else { return nil }
        // Years begin in March, so that leap days come last.
        let shifted = month <= 2 ? year - 1 : year
        let days =
            shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400
            + (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5
            + day - 719_469
        return (days * 86_400 + seconds) * 1_000_000 + fraction
    }
}
