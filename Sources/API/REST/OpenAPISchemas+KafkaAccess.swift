// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

extension OpenAPISchemas {
    /// Users and access rules of the Kafka door.
    static let kafkaAccess: [(name: String, text: String)] = [
        (
            "KafkaUser",
            #"""
            {"type":"object","required":["name","mechanisms","iterations","created_at","updated_at"],"properties":{"name":{"type":"string"},
            "mechanisms":{"type":"array","items":{"type":"string"},"description":"SCRAM mechanisms that can be used; PLAIN works with any of them."},
            "iterations":{"type":"integer"},"created_at":{"type":"string","format":"date-time"},
            "updated_at":{"type":"string","format":"date-time"}}}
            """#
        ),
        kafkaList("KafkaUserList", of: "KafkaUser"),
        (
            "KafkaUserCreate",
            #"""
            {"type":"object","required":["name","password"],"additionalProperties":false,"properties":{
            "name":{"type":"string","minLength":1,"maxLength":249},\#(kafkaPassword)},
            "examples":[{"name":"alice","password":"correct horse battery staple"}]}
            """#
        ),
        (
            "KafkaUserUpdate",
            #"{"type":"object","required":["password"],"additionalProperties":false,"properties":{\#(kafkaPassword)}}"#
        ),
        (
            "KafkaACL",
            #"{"type":"object","required":["id",\#(kafkaRequired)],"properties":{"id":{"type":"integer"},\#(kafkaRule)}}"#
        ),
        kafkaList("KafkaACLList", of: "KafkaACL"),
        (
            "KafkaACLCreate",
            #"""
            {"type":"object","required":["principal","operation","resource_type"],"additionalProperties":false,"properties":{\#(kafkaRule)},
            "examples":[{"principal":"User:alice","operation":"write","resource_type":"topic","resource_name":"frames"},
            {"principal":"User:alice","operation":"read","resource_type":"group","resource_name":"reports-","pattern":"prefixed"}]}
            """#
        ),
    ]

    private static let kafkaPassword = #""password":{"type":"string","minLength":1,"maxLength":1024,"writeOnly":true}"#

    private static let kafkaRequired =
        #""resource_type","resource_name","pattern","principal","host","operation","permission""#

    private static let kafkaRule = #"""
        "resource_type":{"type":"string","enum":["topic","group","cluster","transactional-id"]},
        "resource_name":{"type":"string","minLength":1,"maxLength":1024,"description":"* is every name; may be left out for the cluster."},
        "pattern":{"type":"string","enum":["literal","prefixed"],"default":"literal"},
        "principal":{"type":"string","pattern":"^User:","description":"User:NAME, or User:* for everybody."},
        "host":{"type":"string","default":"*","description":"The client's IP address; * is any."},
        "operation":{"type":"string","enum":["all","read","write","create","delete","alter","describe","cluster-action","describe-configs",
        "alter-configs","idempotent-write"]},
        "permission":{"type":"string","enum":["allow","deny"],"default":"allow"}
        """#

    private static func kafkaList(_ name: String, of item: String) -> (name: String, text: String) {
        (
            name,
            ##"""
            {"type":"object","required":["data","pagination"],"additionalProperties":false,
            "properties":{"data":{"type":"array","items":{"$ref":"#/components/schemas/\##(item)"}},"pagination":{"$ref":"#/components/schemas/Pagination"}}}
            """##
        )
    }
}
