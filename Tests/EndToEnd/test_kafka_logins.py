# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Who guesses at the Kafka door, where keys of tokens come from, and what certificates and addresses say of clients."""

import contextlib
import http.server
import json
import re
import socket
import ssl
import struct
import subprocess
import threading
import time

import confluent_kafka
import pytest
from confluent_kafka.admin import (
    AclBinding, AclBindingFilter, AclOperation, AclPermissionType, AdminClient, NewTopic, ResourcePatternType, ResourceType,
)  # fmt: skip
from harness import until
from kafka_clients import CLIENTS, Message, parse
from kafka_security import PASSWORD, Certificates, Secured, Stand, authenticate, call, handshake, socket_to

BY_NAME = {client.name: client for client in CLIENTS}
METADATA = (3, 1, struct.pack(">i", 0))


# Guessing


def counted(stand, outcome, mechanism="PLAIN") -> int:
    """Logins that ended so."""
    text = stand.engine.http("GET", "/metrics").body.decode().replace(" ", "  ")
    found = re.search(rf'martlet_kafka_logins\S*\{{[^}}]*mechanism="{mechanism}",outcome="{outcome}"[^}}]*\}}\s+([0-9.]+)', text)
    return int(float(found[1])) if found else 0


def log_in(stand, user, password, timeout=40):
    """The error code, the seconds it took, and what the client is told."""
    with socket_to(stand) as connection:
        connection.settimeout(timeout)
        began = time.monotonic()
        assert handshake(connection, "PLAIN") == 0
        message = f"\0{user}\0{password}".encode()
        answer = call(connection, 36, 1, struct.pack(">i", len(message)) + message)
        error, size = struct.unpack_from(">hh", answer)
        return error, time.monotonic() - began, answer[4 : 4 + max(0, size)].decode()


def test_guessing_on_many_connections_is_as_slow_as_on_one(make_engine):
    stand = Stand(make_engine, "sasl-plaintext")
    stand.user("alice")
    stand.user("bob")
    assert log_in(stand, "bob", PASSWORD)[0] == 0
    ended = []

    def guess(number):
        with contextlib.suppress(OSError, AssertionError):
            ended.append(log_in(stand, "alice", f"wrong password {number}"))

    threads = [threading.Thread(target=guess, args=(number,), daemon=True) for number in range(100)]
    for one in threads:
        one.start()
    until(lambda: counted(stand, "failure") >= 4, "the first have failed")
    # Who has logged in from here before is not held up.
    assert log_in(stand, "bob", PASSWORD)[0] == 0
    # Whoever comes now would have to wait too long, and is told so without a check; with an error that clients try again after.
    error, _, text = log_in(stand, "alice", PASSWORD)
    assert error == 89 and "try again" in text, (error, text)
    assert counted(stand, "refused") >= 1
    assert "logins of Kafka clients are refused unchecked" in stand.engine.log.read_text()
    time.sleep(3)
    assert counted(stand, "failure") <= 8, "hundred guesses at once"
    assert {one[0] for one in ended} <= {58, 89}, ended
    stand.engine.stop()
    for one in threads:
        one.join(30)


def test_connections_that_hang_up_wait_no_more(make_engine):
    """The right password gets in soon after a flood that did not wait for its answers."""
    stand = Stand(make_engine, "sasl-plaintext")
    stand.user("alice")
    message = b"\0alice\0wrong password"
    flood = [socket_to(stand) for _ in range(100)]
    for one in flood:
        assert handshake(one, "PLAIN") == 0
        one.sendall(struct.pack(">ihhihi", 14 + len(message), 36, 1, 7, -1, len(message)) + message)
    until(lambda: counted(stand, "failure") >= 4, "the first have failed")
    for one in flood:
        one.close()

    def is_in():
        return log_in(stand, "alice", PASSWORD)[0] == 0

    until(is_in, "the right password is let in", seconds=40, every=0.3)
    assert counted(stand, "failure") <= 8


def test_what_an_unknown_user_is_asked_stays_over_a_start(make_engine):
    stand = Stand(make_engine, "sasl-plaintext")
    stand.user("alice")

    def asked(user):
        with socket_to(stand) as connection:
            assert handshake(connection, "SCRAM-SHA-256") == 0
            error, challenge, _ = authenticate(connection, f"n,,n={user},r=abc".encode())
            assert error == 0
            return challenge.partition(b",")[2]

    before = [asked(user) for user in ("alice", "nobody", "somebody")]
    assert len({len(one) for one in before}) == 1 and len(set(before)) == 3
    stand.engine.stop()
    stand.start()
    assert [asked(user) for user in ("alice", "nobody", "somebody")] == before


def test_silent_connections_from_one_address_close_none_of_another(make_engine):
    stand = Stand(make_engine, "sasl-plaintext")
    stand.user("alice")
    slow = socket.create_connection(parse(stand.place), timeout=30, source_address=("127.0.0.2", 0))
    silent = [socket.create_connection(parse(stand.place), timeout=30) for _ in range(700)]
    try:
        assert silent[0].recv(1) == b"", "the oldest gives way"
        with slow as connection:
            assert handshake(connection, "PLAIN") == 0
            assert authenticate(connection, f"\0alice\0{PASSWORD}".encode())[0] == 0
            assert call(connection, *METADATA)
    finally:
        for one in silent:
            one.close()


def test_one_login_is_finished_before_the_next_begins(make_engine):
    stand = Stand(make_engine, "sasl-plaintext")
    with socket_to(stand) as connection:
        assert handshake(connection, "SCRAM-SHA-256") == 0
        assert handshake(connection, "SCRAM-SHA-256") != 0
        assert connection.recv(1) == b""


# Keys of tokens


class KeyServer:
    """A server for public keys: what it answers is set from outside."""

    def __init__(self, certificates=None):
        self.answer = None
        self.asked = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked += 1
                with contextlib.suppress(OSError):
                    outer.answer(self)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if certificates:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*map(str, certificates.server))
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.place = f"{'https' if certificates else 'http'}://localhost:{self.server.server_address[1]}/keys"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def document(body, status=200, **headers):
    """An answer with a body."""

    def answer(handler):
        handler.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def drip(handler):
    """An answer that never ends."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    while True:
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.2)


@pytest.fixture(params=["https", "http"])
def keys(request, tmp_path):
    certificates = Certificates(tmp_path / "issuer")
    server = KeyServer(certificates if request.param == "https" else None)
    server.authority = certificates.authority
    yield server
    server.close()


def bearer_stand(make_engine, place, answer, form="sasl-plaintext", **settings):
    """An engine whose tokens are checked with the keys of a server that answers so from its first question on."""
    started = {}

    def make(name):
        engine = make_engine(name)
        start = engine.start

        def first(*arguments):
            answer(started["stand"])
            return start(*arguments)

        engine.start = first
        return engine

    class Begun(Stand):
        def start(self):
            started["stand"] = self
            super().start()

    return Begun(make, form, takes_tokens=True, MARTLET_KAFKA_OAUTH_JWKS=place, **settings)


def bearer(stand, user="carol") -> int:
    with socket_to(stand) as connection:
        assert handshake(connection, "OAUTHBEARER") == 0
        message = f"n,,\x01auth=Bearer {stand.issuer.token(user)}\x01\x01".encode()
        error, challenge, _ = authenticate(connection, message)
        return error or (58 if challenge else 0)


@pytest.mark.parametrize("keys", ["https"], indirect=True)
@pytest.mark.parametrize("form", ["sasl-plaintext", "sasl-tls"])
def test_keys_come_over_https(make_engine, keys, form):
    def answer(stand):
        keys.answer = document(stand.issuer.keys.read_bytes())

    stand = bearer_stand(make_engine, keys.place, answer, form, MARTLET_KAFKA_OAUTH_CA=str(keys.authority))
    secured = stand.secured(mechanism="OAUTHBEARER", token=stand.issuer.token("carol"))
    for name in ("confluent-kafka", "kafka-python", "aiokafka"):
        client, topic = BY_NAME[name], f"https-{name}"
        client.produce(stand.place, topic, [Message(b"one")], partition=0, **secured.settings(name))
        assert client.consume(stand.place, topic, 0, 0, 1, **secured.settings(name))[0].message.value == b"one"
    assert keys.asked >= 1
    token = stand.issuer.token("carol", aud="other")
    with socket_to(stand) as connection:
        assert handshake(connection, "OAUTHBEARER") == 0
        assert authenticate(connection, f"n,,\x01auth=Bearer {token}\x01\x01".encode())[1]


@pytest.mark.parametrize("keys", ["https"], indirect=True)
def test_keys_of_a_server_that_nobody_vouches_for_are_not_taken(make_engine, keys):
    def answer(stand):
        keys.answer = document(stand.issuer.keys.read_bytes())

    stand = bearer_stand(make_engine, keys.place, answer)
    assert bearer(stand) == 58 and keys.asked == 0
    assert "keys for Kafka's bearer tokens cannot be read" in stand.engine.log.read_text()


def test_redirects_of_keys_are_not_followed(make_engine, keys):
    other = KeyServer()

    def answer(stand):
        keys.answer = document(b"", status=302, Location=other.place)
        other.answer = document(stand.issuer.keys.read_bytes())

    try:
        stand = bearer_stand(make_engine, keys.place, answer, MARTLET_KAFKA_OAUTH_CA=str(keys.authority))
        assert keys.asked >= 1
        assert bearer(stand) == 58
        assert other.asked == 0
        assert "redirects are not followed" in stand.engine.log.read_text()
    finally:
        other.close()


def test_an_answer_without_end_holds_up_nobody(make_engine, keys):
    def answer(_):
        keys.answer = drip

    began = time.monotonic()
    stand = bearer_stand(make_engine, keys.place, answer, MARTLET_KAFKA_OAUTH_CA=str(keys.authority))
    stand.user("alice")
    assert time.monotonic() - began < 25
    assert bearer(stand) == 58
    assert log_in(stand, "alice", PASSWORD)[0] == 0
    assert "no whole answer within 5 seconds" in stand.engine.log.read_text()


def test_keys_that_are_too_large_are_not_taken(make_engine, keys):
    def answer(stand):
        given = json.loads(stand.issuer.keys.read_bytes()) | {"more": "x" * (2 << 20)}
        keys.answer = document(json.dumps(given).encode())

    stand = bearer_stand(make_engine, keys.place, answer, MARTLET_KAFKA_OAUTH_CA=str(keys.authority))
    assert keys.asked >= 1 and bearer(stand) == 58


# Certificates


@pytest.fixture
def named(make_engine):
    engine = make_engine("authority")
    clients = Certificates(engine.directory / "authority")
    stand = Stand(
        make_engine, "tls", MARTLET_KAFKA_TLS_CLIENT_CA=str(clients.authority), MARTLET_KAFKA_TLS_REQUIRE_CLIENT_CERTIFICATE="true",
        MARTLET_KAFKA_TLS_PRINCIPAL="common-name", MARTLET_KAFKA_ACLS_ENABLED="true", MARTLET_KAFKA_ACLS_SUPER_USERS="User:root",
    )  # fmt: skip
    stand.clients = clients
    return stand


@pytest.mark.parametrize("name", ["confluent-kafka", "kcat"])
def test_the_common_name_of_a_certificate_says_who_a_client_is(named, name):
    def holder(user, subject):
        return Secured(named.authority, named.clients.make(user, subject))

    root, alice = holder("root", "/O=Example/CN=root"), holder("alice", "/C=DE/O=Example/OU=Ops/CN=alice")
    client, topic = BY_NAME[name], f"named-{name}"
    named.admin(root).create_topics([NewTopic(topic, 1)])[topic].result(20)
    settings = alice.settings(name) | {"message.timeout.ms": 4000}
    with pytest.raises((AssertionError, confluent_kafka.KafkaException), match="(?i)auth"):
        client.produce(named.place, topic, [Message(b"one")], partition=0, **settings)
    named.allow("alice", "write", "--topic", topic)
    named.allow("alice", "read", "--topic", topic, "--group", "unused")
    client.produce(named.place, topic, [Message(b"one")], partition=0, **settings)
    assert client.consume(named.place, topic, 0, 0, 1, **alice.settings(name))[0].message.value == b"one"
    # The same name in another place of the subject, and two names: not alice.
    for user, subject in (("unit", "/O=Example/OU=alice/CN=mallory"), ("both", "/CN=alice/CN=mallory"), ("none", "/O=alice")):
        other = holder(user, subject)
        if name == "kcat":
            given = [f"-X{key}={value}" for key, value in other.settings(name).items()]
            done = subprocess.run(
                [client.program, "-b", named.place, "-L", "-t", topic, "-m", "4", *given], capture_output=True, timeout=60
            )  # fmt: skip
            assert done.returncode != 0 or b"auth" in done.stdout.lower(), (user, done)
        else:
            with pytest.raises((AssertionError, confluent_kafka.KafkaException)):
                client.consume(named.place, topic, 0, 0, 1, **other.settings(name) | {"topic.metadata.refresh.interval.ms": 500})
    assert "its client's certificate names nobody" in named.engine.log.read_text()


# Addresses in rules


def rule(topic, host, operation=AclOperation.WRITE, permission=AclPermissionType.ALLOW):
    return AclBinding(ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, "User:alice", host, operation, permission)


def with_host(host):
    return AclBindingFilter(
        ResourceType.ANY, None, ResourcePatternType.ANY, "User:alice", host, AclOperation.ANY, AclPermissionType.ANY
    )  # fmt: skip


@pytest.mark.parametrize(
    ("listens", "written", "shown"),
    [("127.0.0.1", "::FFFF:127.0.0.1", "127.0.0.1"), ("::1", "0:0:0:0:0:0:0:1", "::1")],
)
def test_an_address_in_a_rule_is_the_same_however_it_is_written(make_engine, listens, written, shown):
    if ":" in listens:
        try:
            socket.create_server((listens, 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("this machine has no IPv6")
    stand = Stand(
        make_engine, "sasl-plaintext", MARTLET_KAFKA_HOST=listens,
        MARTLET_KAFKA_ACLS_ENABLED="true", MARTLET_KAFKA_ACLS_SUPER_USERS="User:root",
    )  # fmt: skip
    for user in ("root", "alice"):
        stand.user(user)
    admin: AdminClient = stand.admin(stand.secured("root"))
    admin.create_topics([NewTopic("ruled", 1)])["ruled"].result(20)
    allowed = rule("ruled", written)
    admin.create_acls([allowed])[allowed].result(20)
    alice = stand.secured("alice").librdkafka() | {"message.timeout.ms": 10_000}
    BY_NAME["confluent-kafka"].produce(stand.place, "ruled", [Message(b"1")], 0, **alice)
    # Shown in one way, found by each.
    for host in (written, shown):
        assert [one.host for one in admin.describe_acls(with_host(host)).result(20)] == [shown]
    stand.engine.cli("kafka", "acls", "create", "--user", "alice", "--operation", "write", "--topic", "ruled", "--host", shown)
    assert len(stand.engine.ask("kafka", "acls", "list", "--user", "alice")["data"]) == 1
    for text in ("example.com", "10.0.0.0/8", "fe80::1%eth0", "10.0.0.256"):
        bad = rule("ruled", text)
        with pytest.raises(confluent_kafka.KafkaException) as caught:
            admin.create_acls([bad])[bad].result(20)
        assert caught.value.args[0].code() == 42 and "is no address" in caught.value.args[0].str()
        done = stand.engine.run("kafka", "acls", "create", "--user", "alice", "--operation", "write", "--topic", "ruled", "--host", text)
        assert done.returncode == 4 and "is no address" in done.stderr
    assert [one.host for one in admin.delete_acls([with_host(written)])[with_host(written)].result(20)] == [shown]
    # Those that are good are stored, whatever stands beside them.
    good, bad = rule("ruled", "10.0.0.1"), rule("ruled", "nowhere")
    futures = admin.create_acls([good, bad])
    futures[good].result(20)
    assert futures[bad].exception(20) is not None
    assert [one.host for one in admin.describe_acls(with_host(None)).result(20)] == ["10.0.0.1"]
