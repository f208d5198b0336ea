# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Logins and encryption of the Kafka door, with real clients."""

import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import aiokafka.errors
import confluent_kafka
import kafka
import pytest
from confluent_kafka.admin import NewTopic, ScramMechanism, UserScramCredentialDeletion
from conftest import engines
from harness import PROGRAM, until
from kafka_clients import CLIENTS, Message, parse
from kafka_security import (
    PASSWORD, Certificates, Issuer, Secured, Stand, authenticate, call, check_secrets, code_of_rules, exactly, handshake, refused, socket_to,
)  # fmt: skip

BY_NAME = {client.name: client for client in CLIENTS}
PASSWORDS = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
NAMES = list(BY_NAME)


@pytest.fixture(scope="module", params=["sasl-plaintext", "sasl-tls"])
def stand(request):
    with engines(request) as make:
        stand = Stand(make, request.param, takes_tokens=True)
        stand.user("alice")
        yield stand
        assert stand.engine.stop() == 0, stand.engine.log_tail()
        check_secrets(stand.engine)


# Logging in


@pytest.mark.parametrize("mechanism", PASSWORDS)
@pytest.mark.parametrize("name", NAMES)
def test_each_client_logs_in_with_each_mechanism(stand, name, mechanism):
    secured = stand.secured("alice", mechanism)
    client, topic = BY_NAME[name], f"in-{name}-{mechanism.lower()}"
    sent = [Message(f"{number}".encode() * 3000) for number in range(20)]
    client.produce(stand.place, topic, sent, partition=0, **secured.settings(name))
    seen = client.consume(stand.place, topic, 0, 0, len(sent), **secured.settings(name))
    assert [one.message.value for one in seen] == [one.value for one in sent]


@pytest.mark.parametrize("name", ["confluent-kafka", "kafka-python", "aiokafka"])
def test_each_client_logs_in_with_a_bearer_token(stand, name):
    secured = stand.secured(mechanism="OAUTHBEARER", token=stand.issuer.token("carol"))
    client, topic = BY_NAME[name], f"bearer-{name}"
    client.produce(stand.place, topic, [Message(b"one")], partition=0, **secured.settings(name))
    assert client.consume(stand.place, topic, 0, 0, 1, **secured.settings(name))[0].message.value == b"one"


def test_librdkafka_fetches_a_bearer_token(stand):
    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.dumps({"access_token": stand.issuer.token("carol"), "token_type": "bearer", "expires_in": 600}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        settings = {name: value for name, value in stand.secured(mechanism="OAUTHBEARER").librdkafka().items() if name != "oauth_cb"}
        settings |= {
            "sasl.oauthbearer.method": "oidc", "sasl.oauthbearer.client.id": "me", "sasl.oauthbearer.client.secret": "x",
            "sasl.oauthbearer.token.endpoint.url": f"http://127.0.0.1:{server.server_port}/token",
        }  # fmt: skip
        client = BY_NAME["confluent-kafka"]
        client.produce(stand.place, "bearer-fetched", [Message(b"one")], partition=0, **settings)
        assert client.consume(stand.place, "bearer-fetched", 0, 0, 1, **settings)[0].message.value == b"one"
    finally:
        server.shutdown()


@pytest.mark.parametrize("mechanism", PASSWORDS)
def test_an_unknown_user_and_a_wrong_password_are_told_the_same(stand, mechanism):
    wrong = refused(stand, stand.secured("alice", mechanism, password="wrong password"))
    unknown = refused(stand, stand.secured("nobody", mechanism, password="wrong password"))
    assert "Authentication failed" in wrong and "Authentication failed" in unknown
    text = stand.engine.log.read_text()
    assert "a Kafka client could not log in" in text and "user=nobody" in text.replace('"', "")
    counted = stand.engine.http("GET", "/metrics").body.decode()
    assert f'mechanism="{mechanism}",outcome="failure"' in counted.replace(" ", ""), counted[-3000:]


@pytest.mark.parametrize("name", ["kafka-python", "aiokafka", "kcat"])
def test_no_client_gets_in_with_a_wrong_password(stand, name):
    secured = stand.secured("alice", "SCRAM-SHA-512", password="wrong password")
    settings = secured.settings(name)
    stand.forgive()
    if name == "kcat":
        done = subprocess.run(
            [BY_NAME[name].program, "-b", stand.place, "-L", "-m", "3", *(f"-X{key}={value}" for key, value in settings.items())],
            capture_output=True, timeout=60,
        )  # fmt: skip
        assert done.returncode != 0 and b"Authentication failed" in done.stderr
    elif name == "kafka-python":
        with pytest.raises(kafka.errors.KafkaTimeoutError):
            kafka.KafkaConsumer(bootstrap_servers=stand.place, bootstrap_timeout_ms=3000, **settings)
    else:
        with pytest.raises(aiokafka.errors.KafkaConnectionError):
            BY_NAME[name].consume(stand.place, "none", 0, 0, 1, **settings)


def test_tokens_that_are_not_good_are_refused(stand):
    stranger = Issuer(stand.engine.directory / "made", "stranger")
    good = stand.issuer.token("carol")
    bad = {
        "expired": stand.issuer.token("carol", seconds=-120), "another audience": stand.issuer.token("carol", aud="other"),
        "another issuer": stand.issuer.token("carol", iss="https://other.example"), "a stranger's": stranger.token("carol"),
        "no scope": stand.issuer.token("carol", scope="openid"), "no user": stand.issuer.token(""), "changed": good[:-6] + "AAAAAA",
    }  # fmt: skip
    for what, token in bad.items():
        stand.forgive()
        with socket_to(stand) as connection:
            assert handshake(connection, "OAUTHBEARER") == 0
            error, challenge, _ = authenticate(connection, f"n,,\x01auth=Bearer {token}\x01\x01".encode())
            assert error == 0 and json.loads(challenge)["status"] == "invalid_token", what
            assert authenticate(connection, b"\x01")[0] == 58, what
            assert connection.recv(1) == b"", what
    text = stand.engine.log.read_text()
    for token in [good, *bad.values()]:
        assert token.split(".")[2] not in text if token.count(".") == 2 else True


# By hand


METADATA = (3, 1, struct.pack(">i", 0))


def test_nothing_is_answered_before_the_login(stand):
    for api, version, body in [METADATA, (0, 3, b"\xff\xff\x00\x01" + b"\0" * 8), (36, 1, struct.pack(">i", 3) + b"abc")]:
        with socket_to(stand) as connection:
            packed = struct.pack(">hhih", api, version, 1, -1) + body
            connection.sendall(struct.pack(">i", len(packed)) + packed)
            answer = connection.recv(4096)
            if api == 36:
                assert struct.unpack_from(">h", answer, 8)[0] == 34
                answer = connection.recv(1)
            assert answer == b""
    with socket_to(stand) as connection:
        assert call(connection, 18, 0, b"")[:2] == b"\0\0"
        # Large requests are for those who are known.
        connection.sendall(struct.pack(">i", 100_000))
        assert connection.recv(1) == b""
    with socket_to(stand) as connection:
        assert handshake(connection, "GSSAPI") == 33
        assert connection.recv(1) == b""


def test_the_oldest_form_of_login_works(stand):
    """After SaslHandshake 0 the messages are not requests."""
    with socket_to(stand) as connection:
        assert handshake(connection, "PLAIN", version=0) == 0
        message = f"\0alice\0{PASSWORD}".encode()
        connection.sendall(struct.pack(">i", len(message)) + message)
        assert exactly(connection, 4) == b"\0\0\0\0"
        assert call(connection, *METADATA)
    with socket_to(stand) as connection:
        assert handshake(connection, "PLAIN", version=0) == 0
        connection.sendall(struct.pack(">i", 4) + b"\0a\0b")
        assert connection.recv(1) == b""


def test_a_failed_login_takes_longer_each_time(make_engine):
    stand = Stand(make_engine, "sasl-plaintext")
    ended = []
    for _ in range(4):
        with socket_to(stand) as connection:
            assert handshake(connection, "PLAIN") == 0
            assert authenticate(connection, b"\0alice\0wrong password")[0] == 58
            ended.append(time.monotonic())
            assert connection.recv(1) == b""
    # From one check to the next; each answer comes half a second after its check began.
    apart = [later - earlier for earlier, later in zip(ended, ended[1:])]
    assert apart[0] >= 0.45 and apart[1] >= 0.95 and apart[2] >= 1.95, apart


def test_silent_connections_keep_nobody_out(stand):
    silent = [socket.create_connection(parse(stand.place), timeout=30) for _ in range(700)]
    try:
        with socket_to(stand) as connection:
            assert handshake(connection, "PLAIN") == 0
            assert authenticate(connection, f"\0alice\0{PASSWORD}".encode())[0] == 0
            assert call(connection, *METADATA)
    finally:
        for one in silent:
            one.close()


# Sessions


def test_a_session_ends_and_is_begun_anew(make_engine):
    stand = Stand(make_engine, "sasl-plaintext", MARTLET_KAFKA_SESSION_SECONDS="2")
    stand.user("alice")
    message = f"\0alice\0{PASSWORD}".encode()
    with socket_to(stand) as connection:
        assert handshake(connection, "PLAIN") == 0
        error, _, lifetime = authenticate(connection, message)
        assert error == 0 and lifetime == 2000
        time.sleep(1.5)
        # Again on the same connection, before it ends.
        assert handshake(connection, "PLAIN") == 0
        assert authenticate(connection, message)[0] == 0
        time.sleep(1.2)
        assert call(connection, *METADATA)
        time.sleep(1.2)
        packed = struct.pack(">hhih", 3, 1, 1, -1) + METADATA[2]
        connection.sendall(struct.pack(">i", len(packed)) + packed)
        assert connection.recv(1) == b""
    # A client that knows of it goes on without an error.
    errors = []
    secured = stand.secured("alice", "SCRAM-SHA-512")
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": stand.place, "error_cb": lambda error: errors.append(error)} | secured.librdkafka()
    )
    for number in range(8):
        producer.produce("sessions", str(number).encode())
        assert producer.flush(10) == 0
        time.sleep(0.7)
    assert not [error for error in errors if error.code() == confluent_kafka.KafkaError._AUTHENTICATION], errors


def test_a_token_ends_a_session(stand):
    with socket_to(stand) as connection:
        assert handshake(connection, "OAUTHBEARER") == 0
        message = f"n,,\x01auth=Bearer {stand.issuer.token('carol', seconds=30)}\x01\x01".encode()
        error, _, lifetime = authenticate(connection, message)
        assert error == 0 and 20_000 < lifetime <= 30_000
        # As somebody else on the same connection: refused.
        assert handshake(connection, "OAUTHBEARER") == 0
        other = f"n,,\x01auth=Bearer {stand.issuer.token('mallory')}\x01\x01".encode()
        assert authenticate(connection, other)[0] == 58


def test_connections_of_a_user_that_changes_end(stand):
    name = stand.user(f"short-{stand.engine.directory.name}")
    message = f"\0{name}\0{PASSWORD}".encode()
    with socket_to(stand) as connection:
        assert handshake(connection, "PLAIN") == 0 and authenticate(connection, message)[0] == 0
        assert call(connection, *METADATA)
        stand.engine.cli("kafka", "users", "update", name, input="another\n")
        packed = struct.pack(">hhih", 3, 1, 1, -1) + METADATA[2]
        connection.sendall(struct.pack(">i", len(packed)) + packed)
        assert connection.recv(1) == b""
    stand.engine.cli("kafka", "users", "delete", name, "--force")
    assert stand.engine.run("kafka", "users", "delete", name, "--force").returncode == 3


# Encryption


@pytest.fixture(scope="module")
def mutual(request):
    with engines(request) as make:
        engine = make("mutual")
        folder = Certificates(engine.directory / "authority")
        stand = Stand(
            make, "tls", MARTLET_KAFKA_TLS_CLIENT_CA=str(folder.authority), MARTLET_KAFKA_TLS_REQUIRE_CLIENT_CERTIFICATE="true",
            MARTLET_KAFKA_ACLS_ENABLED="true", MARTLET_KAFKA_ACLS_SUPER_USERS="User:CN=root,O=Example",
        )  # fmt: skip
        stand.clients = folder
        yield stand


@pytest.mark.parametrize("name", NAMES)
def test_a_certificate_says_who_a_client_is(mutual, name):
    root = Secured(mutual.authority, mutual.clients.make("root", "/O=Example/CN=root"))
    client, topic = BY_NAME[name], f"mutual-{name}"
    client.produce(mutual.place, topic, [Message(b"x" * 5000)], partition=0, **root.settings(name))
    assert client.consume(mutual.place, topic, 0, 0, 1, **root.settings(name))[0].message.value == b"x" * 5000


def test_other_certificates_and_none_are_refused(mutual):
    other = Secured(mutual.authority, mutual.clients.make("other", "/O=Example/CN=other"))
    with pytest.raises(confluent_kafka.KafkaException):
        mutual.admin(other).create_topics([NewTopic("of-other", 1)])["of-other"].result(10)
    mutual.engine.cli("kafka", "acls", "create", "--principal", "User:CN=other,O=Example", "--operation", "create", "--topic", "of-other")
    mutual.admin(other).create_topics([NewTopic("of-other", 1)])["of-other"].result(10)
    strangers = Certificates(mutual.engine.directory / "strangers")
    for certificate in (None, strangers.make("root", "/O=Example/CN=root")):
        refused(mutual, Secured(mutual.authority, certificate))


def test_old_protocols_and_plain_bytes_are_refused(mutual):
    host, port = parse(mutual.place)
    with socket.create_connection((host, port), timeout=10) as connection:
        packed = struct.pack(">hhih", 18, 0, 1, -1)
        connection.sendall(struct.pack(">i", len(packed)) + packed)
        connection.settimeout(10)
        answer = connection.recv(100)
        assert answer == b"" or answer[0] == 21, "an alert at most"
    done = subprocess.run(
        ["openssl", "s_client", "-connect", mutual.place, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"],
        input=b"", capture_output=True, timeout=30,
    )  # fmt: skip
    assert b"Cipher is (NONE)" in done.stdout + done.stderr or done.returncode != 0


@pytest.mark.parametrize("name", NAMES)
def test_much_is_read_through_encryption_from_files(make_engine, name):
    """What the kernel would send from the file goes through memory here, piece by piece."""
    stand = Stand(make_engine, "sasl-tls")
    stand.user("alice")
    secured = stand.secured("alice", "SCRAM-SHA-512")
    sent = [Message(os.urandom(100_000).hex().encode()) for _ in range(200)]
    BY_NAME["confluent-kafka"].produce(stand.place, "much", sent, partition=0, **secured.librdkafka())
    stand.engine.stop()
    # After a start nothing of it is in the engine's memory.
    stand.start()
    seen = BY_NAME[name].consume(stand.place, "much", 0, 0, len(sent), **secured.settings(name))
    assert [one.message.value for one in seen] == [one.value for one in sent]


def test_a_certificate_that_was_replaced_is_used(make_engine):
    stand = Stand(make_engine, "tls")

    def shown():
        context = ssl.create_default_context(cafile=str(stand.authority))
        with socket.create_connection(parse(stand.place), timeout=10) as bare, context.wrap_socket(bare, server_hostname="localhost") as one:
            return one.getpeercert()["serialNumber"]

    before = shown()
    # Half of the change is no pair: the one before stays.
    certificate, key = (path.read_bytes() for path in stand.certificates.server)
    made = stand.certificates.make("replaced", "/CN=localhost", "subjectAltName=IP:127.0.0.1,DNS:localhost")
    stand.certificates.server[0].write_bytes(made[0].read_bytes())
    until(lambda: "cannot be used; the one before stays" in stand.engine.log.read_text(), "the broken pair is noticed", 20)
    assert shown() == before
    stand.certificates.server[1].write_bytes(made[1].read_bytes())
    until(lambda: shown() != before, "the new certificate is shown", 20)
    assert certificate and key


# Where it listens


def ends(directory, *arguments, **settings):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MARTLET_")} | settings
    environment |= {name: os.environ[name] for name in os.environ if name.startswith(("MARTLET_PYTHON", "MARTLET_DUCKDB"))}
    process = subprocess.Popen(
        [PROGRAM, "serve", "--data-dir", directory / "data", "--port", "0", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
    )  # fmt: skip
    try:
        return process.communicate(timeout=20)[1].decode()
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        process.communicate()
        raise AssertionError("the engine started") from None


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"MARTLET_KAFKA_HOST": "0.0.0.0"}, "kafka.security: sasl-tls"),
        ({"MARTLET_KAFKA_SECURITY": "sasl-tls"}, "kafka.tls.certificate"),
        ({"MARTLET_KAFKA_SECURITY": "ssl"}, "sasl-plaintext"),
        ({"MARTLET_KAFKA_SECURITY": "tls", "MARTLET_KAFKA_TLS_CERTIFICATE": "/nowhere", "MARTLET_KAFKA_TLS_KEY": "/nowhere"}, "/nowhere"),
        ({"MARTLET_KAFKA_SECURITY": "sasl-plaintext", "MARTLET_KAFKA_SASL_MECHANISMS": "GSSAPI"}, "OAUTHBEARER"),
        ({"MARTLET_KAFKA_SECURITY": "sasl-plaintext", "MARTLET_KAFKA_SASL_MECHANISMS": "OAUTHBEARER"}, "kafka.oauth.jwks"),
        ({"MARTLET_KAFKA_SECURITY": "sasl-plaintext", "MARTLET_KAFKA_OAUTH_JWKS": "/nowhere"}, "kafka.oauth.audience"),
        ({"MARTLET_KAFKA_ACLS_SUPER_USERS": "root"}, "User:NAME"),
    ],
)  # fmt: skip
def test_settings_that_are_not_safe_or_cannot_work_are_refused(tmp_path, settings, says):
    assert says in ends(tmp_path, **settings)


def test_in_the_clear_others_are_offered_what_shows_no_secret(make_engine):
    stand = Stand(make_engine, "sasl-plaintext", MARTLET_KAFKA_HOST="0.0.0.0", MARTLET_KAFKA_ADVERTISED_HOST="127.0.0.1")
    stand.user("alice")
    stand.place = f"127.0.0.1:{parse(stand.place)[1]}"
    with socket_to(stand) as connection:
        assert handshake(connection, "PLAIN") == 33
    assert stand.admin(stand.secured("alice")).list_topics(timeout=10).brokers


def test_without_rules_users_are_of_super_users(stand):
    admin = stand.admin(stand.secured("alice"))
    with pytest.raises(confluent_kafka.KafkaException) as caught:
        admin.alter_user_scram_credentials([UserScramCredentialDeletion("alice", ScramMechanism.SCRAM_SHA_256)])["alice"].result(10)
    assert caught.value.args[0].code() == 31
    assert code_of_rules(stand, stand.secured("alice")) == 54
