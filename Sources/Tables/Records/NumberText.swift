// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// Numbers of JSON text, read exactly.
enum NumberText {
    /// Where the number at `start` ends, or nil when there is none.
    static func end(_ start: Bytes, _ end: Bytes) -> Bytes? {
        var p = start
        func digits() -> Bool {
            let first = p
            while p < end, p.pointee &- 0x30 <= 9 { p += 1 }
            return p > first
        }
        if p < end, p.pointee == 0x2D { p += 1 }
        if p < end, p.pointee == 0x30 { p += 1 } else if !digits() { return nil }
        if p < end, p.pointee == 0x2E {
            p += 1
            guard digits() else { return nil }
        }
        if p < end, p.pointee | 0x20 == 0x65 {
            p += 1
            if p < end, p.pointee == 0x2B || p.pointee == 0x2D { p += 1 }
            guard digits() else { return nil }
        }
        return p
    }

    /// The double of the number at `start`, whose text a scan has checked and which another byte follows.
    ///
    /// Infinite when it is too large.
    static func double(_ start: Bytes) -> Double {
        strtod(UnsafeRawPointer(start).assumingMemoryBound(to: CChar.self), nil)
    }

    /// The number times ten to the power of `scale`, or nil when that is no whole number below `limit`.
    ///
    /// The text is a number of JSON, checked by a scan.
    static func scaled(_ start: Bytes, _ end: Bytes, scale: Int, limit: UInt128) -> Int128? {
        var p = start
        let isNegative = p < end && p.pointee == 0x2D
        if isNegative { p += 1 }
        var mantissa: UInt128 = 0
        var zeroes = 0
        var exponent = 0
        var isFraction = false
        while p < end {
            let byte = p.pointee
            if byte == 0x2E {
                isFraction = true
            } else if byte &- 0x30 <= 9 {
                if isFraction { exponent -= 1 }
                zeroes += 1
                if byte != 0x30 {
                    guard let next = shifted(mantissa, by: zeroes) else { return nil }
                    let (sum, isOverflow) = next.addingReportingOverflow(UInt128(byte - 0x30))
                    if isOverflow { return nil }
                    mantissa = sum
                    zeroes = 0
                }
            } else {
                break
            }
            p += 1
        }
        if mantissa == 0 { return 0 }
        if p < end {
            p += 1
            let isDown = p.pointee == 0x2D
            if isDown || p.pointee == 0x2B { p += 1 }
            var explicit = 0
            while p < end {
                explicit = min(explicit * 10 + Int(p.pointee - 0x30), 1 << 40)
                p += 1
            }
            exponent += isDown ? -explicit : explicit
        }
        let shift = exponent + zeroes + scale
        guard shift >= 0, let value = shifted(mantissa, by: shift), value < limit else { return nil }
        return isNegative ? -Int128(value) : Int128(value)
    }

    private static func shifted(_ value: UInt128, by power: Int) -> UInt128? {
        if value == 0 { return 0 }
        guard power <= 39 else { return nil }
        var value = value
        for _ in 0..<power {
            let (product, isOverflow) = value.multipliedReportingOverflow(by: 10)
            if isOverflow { return nil }
            value = product
        }
        return value
    }

    /// Ten to the power of `width`.
    static func limit(width: Int) -> UInt128 {
        var limit: UInt128 = 1
        for _ in 0..<width { limit *= 10 }
        return limit
    }

    /// The double that is exactly this integer, or nil when there is none.
    static func exactDouble(_ value: Int128) -> Double? {
        let double = Double(value)
        return double.magnitude < 1.5e38 && Int128(double) == value ? double : nil
    }
}
