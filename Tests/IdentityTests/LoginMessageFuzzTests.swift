// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Identity
import Testing

/// Messages of logins that are damaged or made up; what is read must be what a second reading by bytes alone finds.
@Suite(.timeLimit(.minutes(5))) struct LoginMessageFuzzTests {
    private static let serverNonce = "3rfcNHYJY1ZVvWVs7j"
    private static let plain = ["\0alice\0secret", "alice\0alice\0secret", "é\0é\0p,=\u{1}"]
    private static let bearer = [
        "n,,\u{1}auth=Bearer t.o.k\u{1}\u{1}", "n,a=alice,\u{1}host=h\u{1}port=1\u{1}auth=bearer  t\u{1}\u{1}",
    ]
    private static let first = ["n,,n=user,r=abcdef", "y,a=us=2Cer,n=us=2Cer,r=abc,x=y", "n,,n=m\u{FC}ller,r=!~"]

    // MARK: Readings by bytes

    private static func text(_ bytes: ArraySlice<UInt8>) -> String? { String(validating: bytes, as: UTF8.self) }

    private static func split(_ bytes: [UInt8], at separator: Character, most: Int = .max) -> [ArraySlice<UInt8>] {
        bytes.split(
            separator: separator.asciiValue ?? 0,
            maxSplits: most,
            omittingEmptySubsequences: false
        )
    }

    private static func rest(of field: ArraySlice<UInt8>, after start: String) -> [UInt8]? {
        field.starts(with: start.utf8) ? Array(field.dropFirst(start.utf8.count)) : nil
    }

    /// The user and the password.
    private static func readPlain(_ message: [UInt8]) -> [[UInt8]]? {
        let parts = split(message, at: "\0")
        guard parts.count == 3, parts.allSatisfy({ text($0) != nil }), !parts[1].isEmpty, !parts[2].isEmpty,
            parts[0].isEmpty || text(parts[0]) == text(parts[1])
        else { return nil }
        return [Array(parts[1]), Array(parts[2])]
    }

    /// The token and whom the client acts as.
    private static func readBearer(_ message: [UInt8]) -> [[UInt8]]? {
        let parts = split(message, at: "\u{1}")
        guard text(message[...]) != nil, parts.count >= 3, parts.suffix(2).allSatisfy({ $0.isEmpty }) else {
            return nil
        }
        let header = split(Array(parts[0]), at: ",")
        guard header.count == 3, header[2].isEmpty,
            header[0].elementsEqual("n".utf8) || header[0].elementsEqual("y".utf8),
            let name = header[1].isEmpty ? [] : rest(of: header[1], after: "a=")
        else { return nil }
        let values = parts.dropFirst().compactMap { rest(of: $0, after: "auth=") }
        guard values.count == 1, let value = values.first,
            value.prefix(7).map({ (65...90).contains($0) ? $0 + 32 : $0 }) == Array("bearer ".utf8)
        else { return nil }
        let token = Array(value.dropFirst(7).drop { $0 == 0x20 })
        return token.isEmpty ? nil : [token, name]
    }

    /// A name with its commas and equals signs back.
    private static func name(_ bytes: [UInt8]) -> [UInt8]? {
        var name: [UInt8] = []
        var rest = bytes[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "=") else {
                name.append(byte)
                continue
            }
            switch Array(rest.prefix(2)) {
            case Array("2C".utf8): name.append(UInt8(ascii: ","))
            case Array("3D".utf8): name.append(UInt8(ascii: "="))
            default: return nil
            }
            rest = rest.dropFirst(2)
        }
        return name
    }

    /// The user of a first message of SCRAM.
    private static func readFirst(_ message: [UInt8]) -> [UInt8]? {
        let parts = split(message, at: ",", most: 2)
        guard text(message[...]) != nil, parts.count == 3,
            parts[0].elementsEqual("n".utf8) || parts[0].elementsEqual("y".utf8)
        else { return nil }
        let fields = split(Array(parts[2]), at: ",")
        guard fields.count >= 2, let user = rest(of: fields[0], after: "n=").flatMap(name), !user.isEmpty,
            let nonce = rest(of: fields[1], after: "r="), !nonce.isEmpty, nonce.count <= 256,
            nonce.allSatisfy({ (0x21...0x7E).contains($0) }),
            fields.dropFirst(2).allSatisfy({ !$0.starts(with: "m=".utf8) && !$0.starts(with: "tokenauth=true".utf8) })
        else { return nil }
        if parts[1].isEmpty { return user }
        return rest(of: parts[1], after: "a=").flatMap(name) == user ? user : nil
    }

    // MARK: Messages

    private struct Damage: RandomNumberGenerator {
        private var state: UInt64

        init(test: String) {
            let given = ProcessInfo.processInfo.environment["MARTLET_TEST_SEED"].flatMap { UInt64($0) }
            state = given ?? UInt64.random(in: 0...UInt64.max)
            print("\(test): MARTLET_TEST_SEED=\(state)")
        }

        mutating func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var mixed = state
            mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
            mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
            return mixed ^ (mixed >> 31)
        }

        /// Bytes that mean something to one of the readers, and some that join the one in front of them to one character.
        private static let pieces =
            [
                "\0", "\u{1}", ",", "=", "n", "y", "a=", "n=", "r=", "p=", "m=", "c=", "auth=", "Bearer ", "=2C", "=3D",
                "=2c",
                "\u{301}", "\u{FE0F}", "\u{200D}", "\r", "\n", "\r\n", "é", "e\u{301}", " ", "tokenauth=true", "A",
                "==",
            ].map { Array($0.utf8) } + [[0xFF], [0xC3], [0xED, 0xA0, 0x80]]

        mutating func piece() -> [UInt8] { Self.pieces.randomElement(using: &self) ?? [] }

        mutating func changed(_ message: [UInt8]) -> [UInt8] {
            var bytes = message
            for _ in 0..<Int.random(in: 1...3, using: &self) {
                let place = Int.random(in: 0...bytes.count, using: &self)
                switch Int.random(in: 0...5, using: &self) {
                case 0 where place < bytes.count: bytes[place] ^= 1 << UInt8.random(in: 0...7, using: &self)
                case 1 where place < bytes.count: bytes.remove(at: place)
                case 2: bytes.removeLast(Int.random(in: 0...bytes.count, using: &self))
                case 3:
                    let end = min(bytes.count, place + Int.random(in: 0...12, using: &self))
                    bytes.insert(contentsOf: bytes[place..<end], at: Int.random(in: 0...bytes.count, using: &self))
                default: bytes.insert(contentsOf: piece(), at: place)
                }
            }
            return bytes
        }
    }

    /// Every message cut at every place, messages with some of their bytes changed, and messages put together from pieces.
    private static func messages(_ real: [String], test: String) -> [[UInt8]] {
        var damage = Damage(test: test)
        var messages = real.map { Array($0.utf8) }
        for message in messages { messages += (0..<message.count).map { Array(message.prefix($0)) } }
        for _ in 0..<20_000 {
            let message = real.randomElement(using: &damage) ?? ""
            messages.append(damage.changed(Array(message.utf8)))
        }
        for _ in 0..<10_000 {
            messages.append((0..<Int.random(in: 0...12, using: &damage)).flatMap { _ in damage.piece() })
        }
        return messages
    }

    private static func shown(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self).debugDescription }

    @Test func plainIsReadByItsBytes() {
        var accepted = 0
        var faults: [String] = []
        for message in Self.messages(Self.plain, test: "plainIsReadByItsBytes") {
            let found = (try? PlainMessage(message)).map { [Array($0.user.utf8), Array($0.password.utf8)] }
            if found != Self.readPlain(message) { faults.append(Self.shown(message)) }
            accepted += found == nil ? 0 : 1
        }
        #expect(faults.prefix(5) == [])
        #expect(accepted > 1000)
    }

    @Test func bearerIsReadByItsBytes() {
        var accepted = 0
        var faults: [String] = []
        for message in Self.messages(Self.bearer, test: "bearerIsReadByItsBytes") {
            let found = (try? BearerMessage(message)).map { [Array($0.token.utf8), Array($0.authorization.utf8)] }
            if found != Self.readBearer(message) { faults.append(Self.shown(message)) }
            accepted += found == nil ? 0 : 1
        }
        #expect(faults.prefix(5) == [])
        #expect(accepted > 1000)
    }

    @Test func theFirstMessageOfScramIsReadByItsBytes() {
        var accepted = 0
        var faults: [String] = []
        for message in Self.messages(Self.first, test: "theFirstMessageOfScramIsReadByItsBytes") {
            var exchange = ScramExchange(.sha256, serverNonce: Self.serverNonce)
            let found = (try? exchange.begin(message)).map { Array($0.utf8) }
            if found != Self.readFirst(message) { faults.append(Self.shown(message)) }
            accepted += found == nil ? 0 : 1
        }
        #expect(faults.prefix(5) == [])
        #expect(accepted > 1000)
    }

    /// The exchange that RFC 7677 prints; whatever is done to its last message, only the same words and the same proof are taken.
    @Test func noOtherFinalMessageOfScramIsTaken() throws {
        let first = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
        let nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
        let bare = "c=biws,r=rOprNGfwEbeRWgbNEkqO\(nonce)"
        let proof = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        let salt = try #require(Data(base64Encoded: "W22ZaJ0SNY7soEsUEjb6gQ=="))
        let verifier = try ScramVerifier(.sha256, password: "pencil", salt: Array(salt), iterations: 4096)
        var taken = 0
        var faults: [String] = []
        for message in Self.messages(["\(bare),p=\(proof)"], test: "noOtherFinalMessageOfScramIsTaken") {
            var exchange = ScramExchange(.sha256, serverNonce: nonce)
            _ = try exchange.begin(Array(first.utf8))
            _ = try exchange.challenge(verifier)
            guard (try? exchange.finish(message)) != nil else { continue }
            taken += 1
            let given = Data(base64Encoded: Data(message.dropFirst(bare.utf8.count + 3)))
            if !message.starts(with: "\(bare),p=".utf8) || given != Data(base64Encoded: proof) {
                faults.append(Self.shown(message))
            }
        }
        #expect(faults.prefix(5) == [])
        #expect(taken > 0)
    }

    /// In a process of its own, since it looks at the most memory the whole process ever had.
    @Test func messagesAsLongAsTheyMayBeTakeLittleMemory() async {
        await #expect(processExitsWith: .success) {
            guard let before = LoginMessageFuzzTests.status("VmRSS") else { exit(2) }
            for start in ["", "n,,", "n,,n=", "n,,n=a,r=", "n,,\u{1}auth=Bearer "] {
                for filling in [
                    "\0", "\u{1}", ",", "=", "=2C", "a", "e\u{301}", "\u{301}", "\r\n", ",\u{301}", "auth=",
                ] {
                    let text =
                        start + String(repeating: filling, count: (65_536 - start.utf8.count) / filling.utf8.count)
                    let message = Array(text.utf8)
                    _ = try? PlainMessage(message)
                    _ = try? BearerMessage(message)
                    var exchange = ScramExchange(.sha256)
                    _ = try? exchange.begin(message)
                }
            }
            guard let peak = LoginMessageFuzzTests.status("VmHWM") else { exit(2) }
            // A failure's exit code is the figure in MiB.
            let mebibytes = (peak - before) >> 20
            if mebibytes > 32 { exit(Int32(min(mebibytes, 255))) }
        }
    }

    /// A line of what the kernel says of this process, in bytes.
    static func status(_ name: String) -> Int? {
        let lines = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8))?.split(separator: "\n") ?? []
        let line = lines.first { $0.hasPrefix(name + ":") }
        return line?.split(whereSeparator: { !$0.isNumber }).first.flatMap { Int($0) }.map { $0 << 10 }
    }
}
