# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Users and access rules of the Kafka door, with real clients."""

import asyncio
import subprocess
import time

import aiokafka
import confluent_kafka
import kafka
import kafka.admin
import pytest
from confluent_kafka.admin import (
    AclBinding, AclBindingFilter, AclOperation, AclPermissionType, NewTopic, ResourcePatternType, ResourceType, ScramCredentialInfo,
    ScramMechanism, UserScramCredentialDeletion, UserScramCredentialUpsertion,
)  # fmt: skip
from conftest import engines
from harness import until
from kafka_clients import CLIENTS, Kcat, Message
from kafka_security import PASSWORD, Stand, check_secrets, code_of_rules, refused

BY_NAME = {client.name: client for client in CLIENTS}
NAMES = list(BY_NAME)


@pytest.fixture(scope="module")
def ruled(request):
    """Access rules are on; root may do everything."""
    with engines(request) as make:
        stand = Stand(
            make, "sasl-plaintext", MARTLET_KAFKA_ACLS_ENABLED="true", MARTLET_KAFKA_ACLS_SUPER_USERS="User:root;User:CN=other,O=x",
            MARTLET_TOKEN="the-token-of-all-rights", MARTLET_READ_TOKEN="the-token-for-looking",
        )  # fmt: skip
        stand.user("root")
        yield stand
        assert stand.engine.stop() == 0, stand.engine.log_tail()


# Users


def test_users_on_the_command_line(ruled):
    cli = ruled.engine.cli
    cli("kafka", "users", "create", "dave", "--password-file", "-", input=PASSWORD + "\r\n")
    assert ruled.engine.run("kafka", "users", "create", "dave", input="x\n").returncode == 7
    listed = {user["name"]: user for user in ruled.engine.ask("kafka", "users", "list")["data"]}
    assert listed["dave"]["mechanisms"] == ["SCRAM-SHA-256", "SCRAM-SHA-512"] and listed["dave"]["iterations"] == 16384
    assert ruled.engine.run("kafka", "users", "create", "eve", input="\n").returncode == 4
    assert ruled.engine.run("kafka", "users", "update", "eve", input="x\n").returncode == 3
    verbose = ruled.engine.run("kafka", "users", "update", "dave", "--verbose", input="another secret\n")
    assert verbose.returncode == 0 and "another secret" not in verbose.stdout + verbose.stderr
    cli("kafka", "users", "delete", "--force", "dave")


def test_users_by_the_protocol(ruled):
    admin = ruled.admin(ruled.secured("root"))
    upsert = [
        UserScramCredentialUpsertion("frank", ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 8192), b"a password of frank"),
        UserScramCredentialUpsertion("weak", ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 1), b"x"),
    ]
    futures = admin.alter_user_scram_credentials(upsert)
    futures["frank"].result(10)
    with pytest.raises(confluent_kafka.KafkaException) as caught:
        futures["weak"].result(10)
    assert caught.value.args[0].code() == 93
    described = admin.describe_user_scram_credentials(["frank"])["frank"].result(10)
    assert [(one.mechanism, one.iterations) for one in described.scram_credential_infos] == [(ScramMechanism.SCRAM_SHA_512, 8192)]
    assert set(admin.describe_user_scram_credentials().result(10)) >= {"frank", "root"}
    for mechanism in ("PLAIN", "SCRAM-SHA-512"):
        frank = ruled.secured("frank", mechanism, password="a password of frank")
        assert ruled.admin(frank).list_topics(timeout=10).brokers
    with pytest.raises(confluent_kafka.KafkaException) as caught:
        future = ruled.admin(frank).alter_user_scram_credentials([UserScramCredentialDeletion("root", ScramMechanism.SCRAM_SHA_256)])
        future["root"].result(10)
    assert caught.value.args[0].code() == 31
    refused(ruled, ruled.secured("frank", "SCRAM-SHA-256", password="a password of frank"))
    admin.alter_user_scram_credentials([UserScramCredentialDeletion("frank", ScramMechanism.SCRAM_SHA_512)])["frank"].result(10)
    with pytest.raises(confluent_kafka.KafkaException) as caught:
        admin.describe_user_scram_credentials(["frank"])["frank"].result(10)
    assert caught.value.args[0].code() == 91
    check_secrets(ruled.engine, "a password of frank")


# Access rules


def any_acl(**more):
    fields = {
        "restype": ResourceType.ANY, "name": None, "resource_pattern_type": ResourcePatternType.ANY, "principal": None, "host": None,
        "operation": AclOperation.ANY, "permission_type": AclPermissionType.ANY,
    } | more  # fmt: skip
    return AclBindingFilter(**fields)


def test_rules_by_the_protocol(ruled):
    admin = ruled.admin(ruled.secured("root"))
    rules = [
        AclBinding(ResourceType.TOPIC, "by-protocol", ResourcePatternType.LITERAL, "User:gina", "*", AclOperation.READ, AclPermissionType.ALLOW),
        AclBinding(ResourceType.GROUP, "by-", ResourcePatternType.PREFIXED, "User:gina", "10.0.0.1", AclOperation.ALL, AclPermissionType.DENY),
        AclBinding(
            ResourceType.TRANSACTIONAL_ID, "*", ResourcePatternType.LITERAL, "User:gina", "*", AclOperation.WRITE, AclPermissionType.ALLOW
        ),
    ]
    for future in admin.create_acls(rules).values():
        future.result(10)
    assert set(admin.describe_acls(any_acl(principal="User:gina")).result(10)) == set(rules)
    matching = any_acl(restype=ResourceType.GROUP, name="by-all", resource_pattern_type=ResourcePatternType.MATCH)
    assert rules[1] in admin.describe_acls(matching).result(10)
    listed = ruled.engine.ask("kafka", "acls", "list", "--user", "gina")["data"]
    assert [(one["resource_type"], one["pattern"], one["permission"]) for one in listed] == [
        ("topic", "literal", "allow"), ("group", "prefixed", "deny"), ("transactional-id", "literal", "allow"),
    ]  # fmt: skip
    bad = AclBinding(ResourceType.GROUP, "x", ResourcePatternType.LITERAL, "User:gina", "*", AclOperation.WRITE, AclPermissionType.ALLOW)
    with pytest.raises(confluent_kafka.KafkaException) as caught:
        admin.create_acls([bad])[bad].result(10)
    assert caught.value.args[0].code() == 42
    # Rules stay over a kill.
    ruled.engine.kill()
    ruled.start()
    admin = ruled.admin(ruled.secured("root"))
    only = any_acl(principal="User:gina")
    assert set(admin.delete_acls([only])[only].result(10)) == set(rules)
    assert admin.describe_acls(any_acl(principal="User:gina")).result(10) == []
    client = kafka.KafkaAdminClient(bootstrap_servers=ruled.place, **ruled.secured("root").kafka_python())
    acl = kafka.admin.ACL(
        "User:gina", "*", kafka.admin.ACLOperation.READ, kafka.admin.ACLPermissionType.ALLOW,
        kafka.admin.ResourcePattern(kafka.admin.ResourceType.TOPIC, "by-python"),
    )  # fmt: skip
    client.create_acls([acl])
    assert "by-python" in [one["resource_name"] for one in ruled.engine.ask("kafka", "acls", "list")["data"]]
    client.close()


def code_of(body) -> int:
    """The error code a call ends with; 0 where it succeeds."""
    try:
        body()
        return 0
    except confluent_kafka.KafkaException as error:
        return error.args[0].code()


@pytest.mark.parametrize("name", NAMES)
def test_what_no_rule_allows_is_refused_to_each_client(ruled, name):
    """Produce and fetch, first without and then with a rule."""
    user = ruled.user(f"user-{name}")
    topic, secured, client = f"ruled-{name}", ruled.secured(user), BY_NAME[name]
    ruled.admin(ruled.secured("root")).create_topics([NewTopic(topic, 1)])[topic].result(10)
    settings = secured.settings(name)
    quick = {
        "kafka-python": {"max_block_ms": 3000}, "confluent-kafka": {"message.timeout.ms": 4000}, "kcat": {"message.timeout.ms": 4000},
    }.get(name, {})  # fmt: skip

    def produce():
        client.produce(ruled.place, topic, [Message(b"one")], partition=0, **settings | quick)

    with pytest.raises((AssertionError, Exception), match="(?i)auth"):
        produce()
    ruled.allow(user, "write", "--topic", topic)
    produce()
    if name in ("confluent-kafka", "kcat"):
        with pytest.raises((AssertionError, confluent_kafka.KafkaException), match="(?i)auth"):
            client.consume(ruled.place, topic, 0, 0, 1, **settings)
    ruled.allow(user, "read", "--topic", topic, "--group", "unused")
    assert client.consume(ruled.place, topic, 0, 0, 1, **settings)[0].message.value == b"one"
    # A rule that denies wins.
    ruled.allow(user, "write", "--topic", topic, "--deny")
    with pytest.raises((AssertionError, Exception), match="(?i)auth"):
        produce()


def test_topics_that_may_not_be_seen_are_hidden(ruled):
    root, user = ruled.admin(ruled.secured("root")), ruled.user("henry")
    for topic in ("seen", "unseen"):
        root.create_topics([NewTopic(topic, 1)])[topic].result(10)
    ruled.allow(user, "describe", "--topic", "seen")
    admin = ruled.admin(ruled.secured(user))
    assert set(admin.list_topics(timeout=10).topics) == {"seen"}
    for topic in ("unseen", "not-there"):
        assert admin.list_topics(topic, timeout=10).topics[topic].error.code() == 29
    assert {"seen", "unseen"} <= set(root.list_topics(timeout=10).topics)
    # The bits of what one may do.
    described = admin.describe_topics(confluent_kafka.TopicCollection(["seen"]), include_authorized_operations=True)["seen"].result(10)
    assert set(described.authorized_operations) == {AclOperation.DESCRIBE}


def consumer_of(ruled, secured, group, **more):
    return confluent_kafka.Consumer(
        {"bootstrap.servers": ruled.place, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
        | secured.librdkafka() | more
    )  # fmt: skip


def test_groups_need_a_rule(ruled):
    user = ruled.user("irene")
    secured, root = ruled.secured(user), ruled.admin(ruled.secured("root"))
    root.create_topics([NewTopic("of-groups", 1)])["of-groups"].result(10)
    BY_NAME["confluent-kafka"].produce(ruled.place, "of-groups", [Message(b"1")], 0, **ruled.secured("root").librdkafka())
    ruled.allow(user, "read", "--topic", "of-groups")

    def first():
        consumer = consumer_of(ruled, secured, "reports-1")
        try:
            consumer.subscribe(["of-groups"])
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                message = consumer.poll(1)
                if message is None:
                    continue
                if message.error():
                    raise confluent_kafka.KafkaException(message.error())
                consumer.commit(message, asynchronous=False)
                return
            raise AssertionError("nothing came")
        finally:
            consumer.close()

    assert code_of(first) == 30
    ruled.allow(user, "read", "--group", "reports-", "--prefixed")
    assert code_of(first) == 0
    mine = ruled.admin(secured)
    assert {group.group_id for group in mine.list_consumer_groups().result(10).valid} == {"reports-1"}
    assert code_of(lambda: mine.delete_consumer_groups(["reports-1"])["reports-1"].result(10)) == 30
    ruled.allow(user, "delete", "--group", "reports-", "--prefixed")
    until(lambda: code_of(lambda: mine.delete_consumer_groups(["reports-1"])["reports-1"].result(10)) == 0, "the group is deleted")


def read_as_member(ruled, name, secured, group, topic):
    """Reads the first record of a topic as a member of a group and commits; raises what the client is told."""
    settings = secured.settings(name)

    async def with_aiokafka():
        consumer = aiokafka.AIOKafkaConsumer(topic, bootstrap_servers=ruled.place, group_id=group, auto_offset_reset="earliest", **settings)
        try:
            await asyncio.wait_for(consumer.start(), 30)
            await asyncio.wait_for(consumer.getone(), 30)
            await consumer.commit()
        finally:
            await consumer.stop()

    if name == "kcat":
        given = [word for key, value in ({"auto.offset.reset": "earliest"} | settings).items() for word in ("-X", f"{key}={value}")]
        done = subprocess.run(
            [Kcat.program, "-b", ruled.place, "-G", group, "-c", "1", *given, topic], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
    elif name == "aiokafka":
        asyncio.run(with_aiokafka())
    else:
        consumer = kafka.KafkaConsumer(topic, bootstrap_servers=ruled.place, group_id=group, auto_offset_reset="earliest", **settings)
        try:
            until(lambda: consumer.poll(timeout_ms=500), "a record", 30)
            consumer.commit()
        finally:
            consumer.close()


@pytest.mark.parametrize("name", ["kcat", "kafka-python", "aiokafka"])
def test_a_group_needs_a_rule_with_each_client(ruled, name):
    user, topic, group = ruled.user(f"member-{name}"), f"of-member-{name}", f"members-{name}"
    secured, root = ruled.secured(user), ruled.secured("root")
    ruled.admin(root).create_topics([NewTopic(topic, 1)])[topic].result(10)
    BY_NAME["confluent-kafka"].produce(ruled.place, topic, [Message(b"1")], 0, **root.librdkafka())
    ruled.allow(user, "read", "--topic", topic)
    with pytest.raises((AssertionError, Exception), match="(?i)group.?authorization|no access rule allows it"):
        read_as_member(ruled, name, secured, group, topic)
    ruled.allow(user, "read", "--group", group)
    read_as_member(ruled, name, secured, group, topic)
    assert ruled.engine.get(f"groups/{group}")["lag_records"] == 0
    with pytest.raises((AssertionError, Exception), match="(?i)group.?authorization|no access rule allows it"):
        read_as_member(ruled, name, secured, f"{group}-other", topic)


def transact(ruled, name, secured, transactional_id, topic):
    """Commits a transaction of one record; raises what the client is told."""
    settings = secured.settings(name)

    async def with_aiokafka():
        producer = aiokafka.AIOKafkaProducer(
            bootstrap_servers=ruled.place, transactional_id=transactional_id, request_timeout_ms=20_000, **settings
        )
        try:
            await asyncio.wait_for(producer.start(), 30)
            async with producer.transaction():
                await producer.send_and_wait(topic, b"1")
        finally:
            await producer.stop()

    if name == "aiokafka":
        asyncio.run(with_aiokafka())
        return
    producer = kafka.KafkaProducer(bootstrap_servers=ruled.place, transactional_id=transactional_id, max_block_ms=10_000, **settings)
    try:
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(topic, b"1").get(30)
        producer.commit_transaction()
    finally:
        producer.close(timeout=5)


@pytest.mark.parametrize("name", ["kafka-python", "aiokafka"])
def test_a_transactional_id_needs_a_rule_with_each_client(ruled, name):
    user, topic, id = ruled.user(f"writer-{name}"), f"of-writer-{name}", f"writes-{name}"
    secured, root = ruled.secured(user), ruled.secured("root")
    ruled.admin(root).create_topics([NewTopic(topic, 1)])[topic].result(10)
    ruled.allow(user, "write", "--topic", topic)
    with pytest.raises(Exception, match="(?i)transactional.?id.?authorization"):
        transact(ruled, name, secured, id, topic)
    ruled.allow(user, "write", "--transactional-id", id)
    transact(ruled, name, secured, id, topic)
    with pytest.raises(Exception, match="(?i)transactional.?id.?authorization"):
        transact(ruled, name, secured, f"{id}-other", topic)
    [seen] = BY_NAME["confluent-kafka"].consume(ruled.place, topic, 0, 0, 1, **root.librdkafka() | {"isolation.level": "read_committed"})
    assert seen.offset == 0


def test_transactions_need_a_rule(ruled):
    user = ruled.user("jack")
    ruled.admin(ruled.secured("root")).create_topics([NewTopic("of-transactions", 1)])["of-transactions"].result(10)

    def run():
        producer = confluent_kafka.Producer(
            {"bootstrap.servers": ruled.place, "transactional.id": "job-1", "message.timeout.ms": 5000} | ruled.secured(user).librdkafka()
        )
        producer.init_transactions(10)
        producer.begin_transaction()
        failed = []
        producer.produce("of-transactions", b"1", on_delivery=lambda error, _: error and failed.append(error))
        producer.flush(10)
        if failed:
            raise confluent_kafka.KafkaException(failed[0])
        producer.commit_transaction(10)

    ruled.allow(user, "write", "--topic", "of-transactions")
    assert code_of(run) == 53
    ruled.allow(user, "write", "--transactional-id", "job-", "--prefixed")
    assert code_of(run) == 0
    # Without a transactional id, being allowed to write anything is enough; without that it is not.
    assert code_of(lambda: numbered(ruled, user, "of-transactions")) == 0
    nobody = ruled.user("kate")
    ruled.allow(nobody, "describe", "--topic", "of-transactions")
    assert code_of(lambda: numbered(ruled, nobody, "of-transactions")) != 0


def numbered(ruled, user, topic):
    BY_NAME["confluent-kafka"].produce(
        ruled.place, topic, [Message(b"1")], 0,
        **ruled.secured(user).librdkafka() | {"enable.idempotence": True, "message.timeout.ms": 5000},
    )  # fmt: skip


def code_of_deletion(ruled, secured, topic) -> int:
    """The error code of deleting no records of a topic."""
    client = kafka.KafkaAdminClient(bootstrap_servers=ruled.place, **secured.kafka_python())
    try:
        client.delete_records({kafka.TopicPartition(topic, 0): 0}, timeout_ms=10_000)
        return 0
    except kafka.errors.BrokerResponseError as error:
        return error.errno
    finally:
        client.close()


def test_administration_needs_rules(ruled):
    user = ruled.user("leo")
    root, admin = ruled.admin(ruled.secured("root")), ruled.admin(ruled.secured(user))
    root.create_topics([NewTopic("of-leo", 1)])["of-leo"].result(10)
    # Else clients do not even find the partition whose records are to be deleted.
    ruled.allow(user, "describe", "--topic", "of-leo")

    def attempts():
        config = confluent_kafka.admin.ConfigResource(confluent_kafka.admin.ConfigResource.Type.TOPIC, "of-leo")
        broker = confluent_kafka.admin.ConfigResource(confluent_kafka.admin.ConfigResource.Type.BROKER, "0")
        changed = confluent_kafka.admin.ConfigResource(
            confluent_kafka.admin.ConfigResource.Type.TOPIC, "of-leo",
            incremental_configs=[
                confluent_kafka.admin.ConfigEntry(
                    "retention.ms", "1000000", incremental_operation=confluent_kafka.admin.AlterConfigOpType.SET
                )
            ],
        )  # fmt: skip
        return {
            "create": code_of(lambda: admin.create_topics([NewTopic("leo-2", 1)])["leo-2"].result(10)),
            "partitions": code_of(
                lambda: admin.create_partitions([confluent_kafka.admin.NewPartitions("of-leo", 2)])["of-leo"].result(10)
            ),
            "configs": code_of(lambda: admin.describe_configs([config])[config].result(10)),
            "broker": code_of(lambda: admin.describe_configs([broker])[broker].result(10)),
            "alter": code_of(lambda: admin.incremental_alter_configs([changed])[changed].result(10)),
            "records": code_of_deletion(ruled, ruled.secured(user), "of-leo"),
            "acls": code_of_rules(ruled, ruled.secured(user)),
            "delete": code_of(lambda: admin.delete_topics(["leo-2"])["leo-2"].result(10)),
        }  # fmt: skip

    assert attempts() == {
        "create": 29, "partitions": 29, "configs": 29, "broker": 31, "alter": 29, "records": 29, "acls": 31, "delete": 29,
    }  # fmt: skip
    ruled.allow(user, "alter delete alter-configs", "--topic", "of-leo")
    ruled.allow(user, "delete", "--topic", "leo-2")
    ruled.allow(user, "create describe describe-configs", "--cluster")
    assert attempts() == dict.fromkeys(("create", "partitions", "configs", "broker", "alter", "records", "acls", "delete"), 0)


def test_the_engines_own_tokens_are_bearer_tokens(ruled):
    everything = ruled.secured(mechanism="OAUTHBEARER", token="the-token-of-all-rights")
    looking = ruled.secured(mechanism="OAUTHBEARER", token="the-token-for-looking")
    python = BY_NAME["kafka-python"]
    python.produce(ruled.place, "of-tokens", [Message(b"1")], 0, **everything.kafka_python())
    with pytest.raises(Exception, match="(?i)auth"):
        python.produce(ruled.place, "of-tokens", [Message(b"1")], 0, **looking.kafka_python() | {"max_block_ms": 3000})
    check_secrets(ruled.engine, "the-token-of-all-rights", "the-token-for-looking")
