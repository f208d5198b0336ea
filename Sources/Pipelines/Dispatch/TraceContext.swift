// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore

/// The W3C trace context of an event.
package struct TraceContext: Sendable, Equatable {
    package var traceHigh: UInt64
    package var traceLow: UInt64
    package var spanID: UInt64

    package init(traceHigh: UInt64, traceLow: UInt64, spanID: UInt64) {
        self.traceHigh = traceHigh
        self.traceLow = traceLow
        self.spanID = spanID
    }

    /// Parses `00-<32 hex>-<16 hex>-<2 hex>`; nil for anything else, all zeros included.
    package init?(traceparent bytes: some Collection<UInt8>) {
        let text = Array(bytes)
        guard text.count >= 55, text[2] == 0x2D, text[35] == 0x2D, text[52] == 0x2D,
            let high = Self.hex(text[3..<19]), let low = Self.hex(text[19..<35]), let span = Self.hex(text[36..<52]),
            high | low != 0, span != 0
        else { return nil }
        self.init(traceHigh: high, traceLow: low, spanID: span)
    }

    /// The context of an event that carries none: its trace id follows from its id, so every hop finds the same one.
    package init(eventID: some Collection<UInt8>) {
        var high: UInt64 = 0xcbf2_9ce4_8422_2325
        var low: UInt64 = 0x9ae1_6a3b_2f90_404f
        for byte in eventID {
            high = (high ^ UInt64(byte)) &* 0x100_0000_01b3
            low = (low &+ UInt64(byte)) &* 0x9e37_79b9_7f4a_7c15
            low ^= low >> 29
        }
        self.init(traceHigh: high | 1, traceLow: low, spanID: 0)
    }

    /// The trace as 32 hex digits.
    package var traceID: String { Self.text(traceHigh) + Self.text(traceLow) }
    /// The span as 16 hex digits.
    package var spanText: String { Self.text(spanID) }

    /// The header value with `span` as parent of what follows.
    package func traceparent(span: UInt64) -> String {
        "00-\(traceID)-\(Self.text(span))-01"
    }

    /// 16 lower-case hex digits.
    package static func text(_ value: UInt64) -> String {
        String(unsafeUninitializedCapacity: 16) { buffer in
            for index in 0..<16 {
                let digit = UInt8(truncatingIfNeeded: value >> UInt64(60 - index * 4)) & 0xF
                buffer[index] = digit < 10 ? 0x30 + digit : 0x57 + digit
            }
            return 16
        }
    }

    private static func hex(_ digits: ArraySlice<UInt8>) -> UInt64? {
        var value: UInt64 = 0
        for digit in digits {
            switch digit {
            case 0x30...0x39: value = value << 4 | UInt64(digit - 0x30)
            case 0x61...0x66: value = value << 4 | UInt64(digit - 0x57)
            default: return nil
            }
        }
        return value
    }
}

/// Span ids: unique with overwhelming likelihood, quick, not secret.
struct SpanIDGenerator {
    private var state: UInt64

    init(seed: UInt64 = UInt64.random(in: .min ... .max)) {
        state = seed
    }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return (mixed ^ (mixed >> 31)) | 1
    }
}
