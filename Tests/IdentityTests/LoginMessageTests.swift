// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Identity
import Testing

struct LoginMessageTests {
    @Test(arguments: ["\0alice\0secret", "alice\0alice\0secret"])
    func readsPlain(_ text: String) throws {
        let message = try PlainMessage(Array(text.utf8))
        #expect(message.user == "alice")
        #expect(message.password == "secret")
    }

    @Test(arguments: ["", "alice", "alice\0secret", "\0alice\0", "\0\0secret", "bob\0alice\0secret", "\0a\0b\0c"])
    func refusesPlain(_ text: String) {
        #expect(throws: SaslFailure.self) { try PlainMessage(Array(text.utf8)) }
    }

    @Test func refusesPlainThatIsNoText() {
        #expect(throws: SaslFailure.self) { try PlainMessage([0, 0xFF, 0, 0x61]) }
    }

    @Test(arguments: [
        ("n,,\u{1}auth=Bearer t.o.k\u{1}\u{1}", ""), ("n,a=alice,\u{1}auth=Bearer t.o.k\u{1}\u{1}", "alice"),
        ("n,,\u{1}auth=bearer   t.o.k\u{1}host=h\u{1}\u{1}", ""),
        ("y,,\u{1}host=h\u{1}auth=Bearer t.o.k\u{1}\u{1}", ""),
    ])
    func readsBearer(_ text: String, _ authorization: String) throws {
        let message = try BearerMessage(Array(text.utf8))
        #expect(message.token == "t.o.k")
        #expect(message.authorization == authorization)
    }

    @Test(arguments: [
        "", "n,,", "n,,\u{1}\u{1}", "n,,\u{1}auth=Bearer \u{1}\u{1}", "n,,\u{1}auth=Basic t\u{1}\u{1}",
        "p,,\u{1}auth=Bearer t\u{1}\u{1}", "n,,\u{1}auth=Bearer t", "n,,\u{1}auth=Bearer t\u{1}",
        "n,,\u{1}auth=Bearer t\u{1}auth=Bearer u\u{1}\u{1}", "n,b=c,\u{1}auth=Bearer t\u{1}\u{1}",
    ])
    func refusesBearer(_ text: String) {
        #expect(throws: SaslFailure.self) { try BearerMessage(Array(text.utf8)) }
    }
}
