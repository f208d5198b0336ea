// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Identity
import MartletCore
import Testing

struct AccessRulesTests {
    private func decide(
        _ acls: [KafkaACL],
        _ operation: KafkaACL.Operation,
        _ name: String = "frames",
        by principal: String = "User:alice",
        from host: String = "10.0.0.1",
        on type: KafkaACL.ResourceType = .topic
    ) -> Bool {
        AccessRules(acls).allow(principal, host: host, operation, on: type, name)
    }

    /// Swift takes both for the same name, and so does whoever looks the topic up.
    @Test func anotherWayToWriteANameIsTheSameName() {
        let rules = [
            KafkaACL(.allow, "User:alice", .all, on: .topic, "*"),
            KafkaACL(.deny, "User:*", .all, on: .topic, "Kpriv", pattern: .prefixed),
        ]
        #expect(!decide(rules, .read, "Kpriv1"))
        #expect(!decide(rules, .read, "\u{212A}priv1"))
        #expect(decide(rules, .read, "pub"))
    }

    @Test func deniesWhatNoRuleAllows() {
        #expect(!decide([], .read))
        #expect(!decide([KafkaACL(.allow, "User:bob", .all, on: .topic, "frames")], .read))
        #expect(!decide([KafkaACL(.allow, "User:alice", .all, on: .group, "frames")], .read))
        #expect(!decide([KafkaACL(.allow, "User:alice", .read, on: .topic, "frames")], .write))
        #expect(!decide([KafkaACL(.allow, "User:alice", .read, on: .topic, "frames", host: "10.0.0.2")], .read))
        #expect(!decide([KafkaACL(.allow, "User:alice", .read, on: .topic, "frame")], .read))
    }

    @Test(arguments: [
        KafkaACL(.allow, "User:alice", .read, on: .topic, "frames"),
        KafkaACL(.allow, "User:alice", .all, on: .topic, "frames"),
        KafkaACL(.allow, "User:*", .read, on: .topic, "frames"), KafkaACL(.allow, "User:alice", .read, on: .topic, "*"),
        KafkaACL(.allow, "User:alice", .read, on: .topic, "fra", pattern: .prefixed),
        KafkaACL(.allow, "User:alice", .read, on: .topic, "frames", pattern: .prefixed),
        KafkaACL(.allow, "User:alice", .read, on: .topic, "frames", host: "10.0.0.1"),
    ])
    func allowsWhatARuleAllows(_ acl: KafkaACL) {
        #expect(decide([acl], .read))
        #expect(decide([acl], .describe))
        #expect(decide([acl], .read, by: "User:bob") == (acl.principal == "User:*"))
    }

    @Test(arguments: [
        ("2001:DB8::1", "2001:db8::1"), ("2001:db8:0:0:0:0:0:1", "2001:db8::1"), ("::ffff:127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "::ffff:127.0.0.1"), ("::FFFF:7F00:1", "127.0.0.1"),
    ])
    func anAddressIsTheSameHoweverItIsWritten(_ rule: String, _ client: String) throws {
        let allow = KafkaACL(.allow, "User:alice", .read, on: .topic, "frames", host: rule)
        #expect(decide([allow], .read, from: client))
        #expect(decide([try allow.checked()], .read, from: client))
        #expect(!decide([allow], .read, from: "2001:db8::2"))
        let deny = KafkaACL(.deny, "User:*", .all, on: .topic, "*", host: rule)
        let all = KafkaACL(.allow, "User:alice", .write, on: .topic, "frames")
        #expect(!decide([all, deny], .write, from: client))
        #expect(!AccessRules([all, deny]).allowAny("User:alice", host: client, .write, on: .topic))
        #expect(decide([all, deny], .write, from: "2001:db8::2"))
    }

    @Test func aRuleIsStoredWithItsAddressInOneForm() throws {
        let acl = KafkaACL(.allow, "User:alice", .read, on: .topic, "frames", host: "2001:DB8:0:0::1")
        #expect(try acl.checked().host == "2001:db8::1")
    }

    @Test(arguments: [KafkaACL.Operation.read, .write, .delete, .alter])
    func describeComesWith(_ operation: KafkaACL.Operation) {
        #expect(decide([KafkaACL(.allow, "User:alice", operation, on: .topic, "frames")], .describe))
        #expect(!decide([KafkaACL(.allow, "User:alice", .describe, on: .topic, "frames")], operation))
        // Being kept from one thing keeps nobody from seeing.
        let acls = [
            KafkaACL(.allow, "User:alice", .describe, on: .topic, "frames"),
            KafkaACL(.deny, "User:alice", operation, on: .topic, "frames"),
        ]
        #expect(decide(acls, .describe))
    }

    @Test func seeingSettingsComesWithChangingThem() {
        let acl = KafkaACL(.allow, "User:alice", .alterConfigs, on: .topic, "frames")
        #expect(decide([acl], .describeConfigs))
        #expect(!decide([acl], .describe))
        #expect(!decide([KafkaACL(.allow, "User:alice", .read, on: .topic, "frames")], .describeConfigs))
    }

    /// Every mixture of up to three rules against the words of the rule: denied wins, then allowed, then nothing.
    @Test func decidesAsTheRuleSays() {
        var generator = SeededGenerator(state: 20_240_817)
        let principals = ["User:alice", "User:bob", "User:*"]
        let names = ["frames", "frames-raw", "fr", "*", "logs"]
        let operations: [KafkaACL.Operation] = [.all, .read, .write, .describe]
        for _ in 0..<20_000 {
            let acls = (0..<Int.random(in: 0...3, using: &generator)).compactMap { _ -> KafkaACL? in
                guard let principal = principals.randomElement(using: &generator),
                    let name = names.randomElement(using: &generator),
                    let operation = operations.randomElement(using: &generator)
                else { return nil }
                return KafkaACL(
                    Bool.random(using: &generator) ? .allow : .deny,
                    principal,
                    operation,
                    on: .topic,
                    name,
                    pattern: name != "*" && Bool.random(using: &generator) ? .prefixed : .literal,
                    host: Bool.random(using: &generator) ? "*" : "10.0.0.1"
                )
            }
            let host = Bool.random(using: &generator) ? "10.0.0.1" : "10.0.0.2"
            for name in ["frames", "frames-raw", "logs"] {
                for wanted in [KafkaACL.Operation.read, .write, .describe] {
                    let about = acls.filter { acl in
                        let isName =
                            acl.pattern == .prefixed
                            ? name.hasPrefix(acl.resourceName) : acl.resourceName == name || acl.resourceName == "*"
                        return isName && (acl.principal == "User:alice" || acl.principal == "User:*")
                            && (acl.host == "*" || acl.host == host)
                    }
                    let isDenied = about.contains {
                        $0.permission == .deny && ($0.operation == .all || $0.operation == wanted)
                    }
                    let isAllowed = about.contains { acl in
                        acl.permission == .allow
                            && (acl.operation == .all || acl.operation == wanted
                                || (wanted == .describe && [.read, .write].contains(acl.operation)))
                    }
                    #expect(
                        decide(acls, wanted, name, from: host) == (isAllowed && !isDenied),
                        "\(acls) \(wanted) \(name)"
                    )
                }
            }
            // Whoever may do it with one of these may do it with any.
            let rules = AccessRules(acls)
            if ["frames", "frames-raw", "logs"].contains(where: { decide(acls, .write, $0, from: host) }) {
                #expect(rules.allowAny("User:alice", host: host, .write, on: .topic), "\(acls)")
            }
        }
    }

    @Test func anyIsNotWhatIsDeniedEverywhere() {
        func any(_ acls: [KafkaACL]) -> Bool {
            AccessRules(acls).allowAny("User:alice", host: "10.0.0.1", .write, on: .topic)
        }
        let some = KafkaACL(.allow, "User:alice", .write, on: .topic, "tmp-", pattern: .prefixed)
        #expect(any([some]))
        #expect(!any([]))
        #expect(!any([some, KafkaACL(.deny, "User:alice", .write, on: .topic, "*")]))
        #expect(!any([some, KafkaACL(.deny, "User:*", .all, on: .topic, "tmp", pattern: .prefixed)]))
        #expect(any([some, KafkaACL(.deny, "User:alice", .write, on: .topic, "tmp-1")]))
        #expect(
            !any([
                KafkaACL(.allow, "User:alice", .write, on: .topic, "a"),
                KafkaACL(.deny, "User:alice", .write, on: .topic, "a"),
            ])
        )
    }

    @Test(arguments: [
        KafkaACL(.allow, "alice", .read, on: .topic, "a"), KafkaACL(.allow, "User:", .read, on: .topic, "a"),
        KafkaACL(.allow, "User:alice", .read, on: .topic, ""),
        KafkaACL(.allow, "User:alice", .idempotentWrite, on: .topic, "a"),
        KafkaACL(.allow, "User:alice", .write, on: .group, "a"),
        KafkaACL(.allow, "User:alice", .create, on: .cluster, "other"),
        KafkaACL(.allow, "User:alice", .create, on: .cluster, KafkaACL.clusterName, pattern: .prefixed),
        KafkaACL(.allow, "User:alice", .read, on: .topic, "a", host: "example.com"),
        KafkaACL(.allow, "User:alice", .read, on: .topic, "a", host: "10.0.0.256"),
        KafkaACL(.allow, "User:alice", .read, on: .topic, "a", host: "fe80::1%eth0"),
        KafkaACL(.allow, "User:alice", .read, on: .topic, "a", host: "beef"),
        KafkaACL(.allow, "User:alice", .read, on: .topic, "a", host: ""),
        KafkaACL(.allow, "User:a\u{0}b", .read, on: .topic, "a"),
    ])
    func refusesARuleThatCouldNotHold(_ acl: KafkaACL) {
        #expect(throws: ServiceError.self) { try acl.checked() }
    }
}

/// Random numbers that are the same in each run.
private struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
