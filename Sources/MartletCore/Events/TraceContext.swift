// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

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
    package init?(traceparent text: [UInt8]) {
        guard text.count >= 55, text[2] == 0x2D, text[35] == 0x2D, text[52] == 0x2D,
            let high = Self.hex(text[3..<19]), let low = Self.hex(text[19..<35]), let span = Self.hex(text[36..<52]),
            high | low != 0, span != 0
        else { return nil }
        self.init(traceHigh: high, traceLow: low, spanID: span)
    }

    /// The context of an event that carries none: its trace id follows from its id, so every hop finds the same one; it has no span.
    package init(eventID: [UInt8]) {
        var hash = StableHash()
        hash.add(eventID)
        let trace = hash.value
        // An id of zeros means "none".
        self.init(traceHigh: trace.high | 1, traceLow: trace.low, spanID: 0)
    }

    /// The context that a trigger gives its event: trace and span follow from the event's id.
    package init(triggerOf eventID: String) {
        self.init(eventID: Array(eventID.utf8))
        var hash = StableHash()
        hash.add(eventID)
        hash.add("span")
        spanID = hash.value.low | 1
    }

    /// The trace as 32 hex digits.
    package var traceID: String { Self.text(traceHigh) + Self.text(traceLow) }
    /// The span as 16 hex digits.
    package var spanText: String { Self.text(spanID) }

    /// The W3C header that makes trace and span known downstream.
    package var traceparent: String { traceparent(span: spanID) }

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
