// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import KafkaCodec
import Testing

struct KafkaReaderTests {
    /// Reads something and returns it, the fault and how far the reader came.
    static func read<Value>(
        _ bytes: [UInt8],
        flexible: Bool = false,
        elementsMax: Int = KafkaReader.elementsMaxDefault,
        _ body: (inout KafkaReader) -> Value
    ) -> (value: Value, fault: KafkaCodecError.Code?, position: Int) {
        bytes.withUnsafeBytes { raw in
            var reader = KafkaReader(raw, elementsMax: elementsMax)
            reader.isFlexible = flexible
            let value = body(&reader)
            return (value, reader.fault?.code, reader.position)
        }
    }

    @Test(arguments: [
        ([0x00], 0), ([0x7F], 127), ([0x80, 0x01], 128), ([0xFF, 0xFF, 0xFF, 0xFF, 0x0F], Int(UInt32.max)),
        ([0x80, 0x80, 0x80, 0x80, 0x00], 0),
    ])
    func readsVariableLengthIntegers(bytes: [UInt8], value: Int) {
        let read = Self.read(bytes) { $0.unsignedVarInt() }
        #expect(read.value == value)
        #expect(read.fault == nil)
        #expect(read.position == bytes.count)
    }

    @Test(arguments: [
        ([0xFF, 0xFF, 0xFF, 0xFF, 0x10], KafkaCodecError.Code.badLength),
        ([0x80, 0x80, 0x80, 0x80, 0x80, 0x01], .badLength), ([0x80], .truncated), ([], .truncated),
    ])
    func refusesVariableLengthIntegers(bytes: [UInt8], code: KafkaCodecError.Code) {
        #expect(Self.read(bytes) { $0.unsignedVarInt() }.fault == code)
    }

    @Test func refusesLengthsThatCannotBe() {
        #expect(Self.read([0xFF, 0xFE]) { $0.string() }.fault == .badLength)
        #expect(Self.read([0xFF, 0xFF]) { $0.string() }.fault == .unexpectedNull)
        #expect(Self.read([0xFF, 0xFF]) { $0.nullableString() }.fault == nil)
        #expect(Self.read([0x00], flexible: true) { $0.string() }.fault == .unexpectedNull)
        #expect(Self.read([0x00], flexible: true) { $0.nullableString() }.fault == nil)
        #expect(Self.read([0x7F, 0xFF, 0x61]) { $0.string() }.fault == .truncated)
        #expect(Self.read([0x7F, 0xFF, 0xFF, 0xFF]) { $0.byteArray() }.fault == .truncated)
        #expect(Self.read([0x80, 0, 0, 0]) { $0.nullableBytes() }.fault == .badLength)
        #expect(Self.read([0xFF, 0xFF, 0xFF, 0xFF]) { $0.records() }.fault == .unexpectedNull)
        #expect(Self.read([0, 0, 0, 9, 1]) { $0.nullableRecords() }.fault == .truncated)
        #expect(Self.read([0xFE]) { $0.nullable { $0.int8() } }.fault == .badLength)
    }

    @Test func refusesTextThatIsNotUTF8ButRepairsTheClientsName() {
        #expect(Self.read([0, 2, 0xC3, 0x28]) { $0.string() }.fault == .badText)
        let name = Self.read([0, 2, 0xC3, 0x28]) { $0.clientID() }
        #expect(name.fault == nil)
        #expect(name.value == "\u{FFFD}(")
    }

    @Test func aFaultSticks() {
        let read = Self.read([0xFF, 0xFE, 0, 0, 0, 1, 0, 0, 0, 2]) { reader in
            _ = reader.string()
            let zero = reader.int32()
            let none = reader.array(minimum: 1) { $0.int8() }
            return (zero, none, reader.bytesLeft)
        }
        #expect(read.value.0 == 0)
        #expect(read.value.1.isEmpty)
        #expect(read.value.2 == 0)
        #expect(read.fault == .badLength)
        #expect(read.position == 2)
    }

    @Test func boundsTheElementsOfAllArraysTogether() {
        let twice: [UInt8] = [0, 0, 0, 3, 1, 2, 3, 0, 0, 0, 3, 1, 2, 3]
        func both(_ reader: inout KafkaReader) -> Int {
            reader.array(minimum: 1) { $0.int8() }.count + reader.array(minimum: 1) { $0.int8() }.count
        }
        #expect(Self.read(twice, elementsMax: 6, both).fault == nil)
        #expect(Self.read(twice, elementsMax: 5, both).fault == .tooManyElements)
        #expect(Self.read([0, 0, 0, 3, 1, 2, 3]) { $0.array(minimum: 4) { $0.int32() } }.fault == .truncated)
        #expect(Self.read([0x80, 0, 0, 0]) { $0.nullableArray(minimum: 1) { $0.int8() } }.fault == .badLength)
        #expect(Self.read([0xFF, 0xFF, 0xFF, 0xFF]) { $0.array(minimum: 1) { $0.int8() } }.fault == .unexpectedNull)
    }

    /// Reads the tagged fields of a struct that knows tag 1 with four bytes.
    static func tagged(_ bytes: [UInt8]) -> (value: Int32, fault: KafkaCodecError.Code?, position: Int) {
        read(bytes, flexible: true) { reader in
            var value: Int32 = -1
            var tags = reader.tags()
            while let tag = reader.nextTag(of: &tags) {
                if tag == 1 { value = reader.int32() } else { reader.skip(&tags) }
            }
            return value
        }
    }

    @Test func skipsUnknownTags() {
        let read = Self.tagged([3, 0, 2, 9, 9, 1, 4, 0, 0, 0, 7, 0x80, 0x01, 1, 9])
        #expect(read.value == 7)
        #expect(read.fault == nil)
        #expect(read.position == 15)
    }

    @Test(arguments: [
        ([2, 1, 4, 0, 0, 0, 7, 1, 4, 0, 0, 0, 8], KafkaCodecError.Code.badTag),
        ([2, 3, 0, 1, 4, 0, 0, 0, 7], .badTag),
        ([1, 1, 5, 0, 0, 0, 7, 9], .badTag),
        ([1, 1, 3, 0, 0, 7, 9], .truncated),
        ([1, 1, 9, 0, 0, 0, 7], .truncated),
        ([1], .truncated),
        ([0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 2, 0], .truncated),
    ])
    func refusesTagsThatFollowNoRule(bytes: [UInt8], code: KafkaCodecError.Code) {
        #expect(Self.tagged(bytes).fault == code)
    }

    @Test func skipsUnknownTagsOfHeadersAndRequests() throws {
        // ApiVersions 3: header with tag 5, software name "a" and version "b", tag 9 with a byte.
        let message: [UInt8] = [0, 18, 0, 3, 0, 0, 0, 1, 0xFF, 0xFF, 1, 5, 2, 8, 8, 2, 0x61, 2, 0x62, 1, 9, 1, 7]
        try message.withUnsafeBytes { raw in
            var reader = KafkaReader(raw)
            let header = try KafkaRequestHeader(from: &reader)
            let request = try ApiVersionsRequest(from: &reader, version: header.version)
            #expect(request == ApiVersionsRequest(clientSoftwareName: "a", clientSoftwareVersion: "b"))
            #expect(reader.bytesLeft == 0)
        }
    }

    @Test func errorsSayWhatAndWhere() {
        let error = KafkaCodecError(.truncated, at: 12, value: 40)
        #expect(error.description == "truncated at byte 12 of the message: 40 bytes are needed and fewer are left")
        for code in KafkaCodecError.Code.allCases {
            #expect(KafkaCodecError(code, at: 3, value: 4).description.hasPrefix("\(code.rawValue) at byte 3"))
        }
    }
}
