# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""What four Kafka clients need to log in and to encrypt, certificates made with openssl, and bearer tokens."""

import base64
import json
import socket
import ssl
import struct
import subprocess
import time
from pathlib import Path

import aiokafka.abc
import confluent_kafka
import kafka.admin
import kafka.net.sasl.oauth
import pytest
from confluent_kafka.admin import AdminClient
from kafka_clients import parse

PASSWORD = "correct horse, battery = staple"
AUDIENCE = "martlet-test"
ISSUER = "https://issuer.example"


def openssl(*words, input=None, cwd=None) -> bytes:
    done = subprocess.run(["openssl", *map(str, words)], input=input, capture_output=True, cwd=cwd, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Certificates:
    """An authority, the server's certificate, and those of clients."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.authority = folder / "ca.pem"
        openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=test authority",
            "-keyout", folder / "ca.key", "-out", self.authority,
        )  # fmt: skip
        self.server = self.make("server", "/CN=localhost", "subjectAltName=IP:127.0.0.1,DNS:localhost")

    def make(self, name: str, subject: str, extension: str = "extendedKeyUsage=clientAuth") -> tuple[Path, Path]:
        """A certificate and its key."""
        certificate, key, request = (self.folder / f"{name}.{end}" for end in ("pem", "key", "csr"))
        (self.folder / f"{name}.ext").write_text(extension + "\n")
        openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", subject, "-keyout", key, "-out", request
        )
        openssl(
            "x509", "-req", "-in", request, "-CA", self.authority, "-CAkey", self.folder / "ca.key", "-CAcreateserial",
            "-days", "2", "-extfile", self.folder / f"{name}.ext", "-out", certificate,
        )  # fmt: skip
        return certificate, key

    def settings(self, **more: str) -> dict[str, str]:
        """What the engine needs."""
        return {"MARTLET_KAFKA_TLS_CERTIFICATE": str(self.server[0]), "MARTLET_KAFKA_TLS_KEY": str(self.server[1])} | more


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """Signs bearer tokens (RS256)."""

    def __init__(self, folder: Path, name: str = "issuer") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.key = folder / f"{name}.key"
        openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", self.key)
        modulus = bytes.fromhex(openssl("rsa", "-in", self.key, "-noout", "-modulus").decode().strip().partition("=")[2])
        key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": name, "n": encoded(modulus), "e": "AQAB"}
        self.name = name
        self.keys = folder / f"{name}.json"
        self.keys.write_text(json.dumps({"keys": [key]}))

    def token(self, user: str, seconds: float = 600, **claims) -> str:
        now = int(time.time())
        header = {"alg": "RS256", "typ": "JWT", "kid": self.name}
        body = {"sub": user, "iss": ISSUER, "aud": AUDIENCE, "iat": now - 1, "exp": int(now + seconds), "scope": "kafka"} | claims
        text = f"{encoded(json.dumps(header).encode())}.{encoded(json.dumps(body).encode())}"
        return f"{text}.{encoded(openssl('dgst', '-sha256', '-sign', self.key, input=text.encode()))}"

    def settings(self) -> dict[str, str]:
        """What the engine needs."""
        return {
            "MARTLET_KAFKA_OAUTH_JWKS": str(self.keys), "MARTLET_KAFKA_OAUTH_AUDIENCE": AUDIENCE,
            "MARTLET_KAFKA_OAUTH_ISSUER": ISSUER, "MARTLET_KAFKA_OAUTH_SCOPE": "kafka",
        }  # fmt: skip


class SyncTokens(kafka.net.sasl.oauth.AbstractTokenProvider):
    def __init__(self, token):
        super().__init__()
        self.given = token

    def token(self):
        return self.given


class AsyncTokens(aiokafka.abc.AbstractTokenProvider):
    def __init__(self, token):
        self.given = token

    async def token(self):
        return self.given


class Secured:
    """How a client reaches an engine: encrypted or not, as whom."""

    def __init__(self, authority=None, certificate=None, mechanism=None, user=None, password=PASSWORD, token=None):
        self.authority, self.certificate, self.mechanism = authority, certificate, mechanism
        self.user, self.password, self.token = user, password, token

    @property
    def protocol(self) -> str:
        return ("SASL_" if self.mechanism else "") + ("SSL" if self.authority else "PLAINTEXT")

    def settings(self, client: str) -> dict:
        """The client's own words."""
        return {
            "kcat": self.librdkafka, "confluent-kafka": self.librdkafka, "kafka-python": self.kafka_python, "aiokafka": self.aiokafka,
        }[client]()  # fmt: skip

    def librdkafka(self) -> dict:
        made = {"security.protocol": self.protocol}
        if self.authority:
            made["ssl.ca.location"] = str(self.authority)
        if self.certificate:
            made |= {"ssl.certificate.location": str(self.certificate[0]), "ssl.key.location": str(self.certificate[1])}
        if self.mechanism:
            made["sasl.mechanism"] = self.mechanism
        if self.mechanism == "OAUTHBEARER":
            made["oauth_cb"] = lambda _: (self.token, time.time() + 600)
        elif self.mechanism:
            made |= {"sasl.username": self.user, "sasl.password": self.password}
        return made

    def kafka_python(self) -> dict:
        made = {"security_protocol": self.protocol}
        if self.authority:
            made["ssl_cafile"] = str(self.authority)
        if self.certificate:
            made |= {"ssl_certfile": str(self.certificate[0]), "ssl_keyfile": str(self.certificate[1])}
        return made | self.python(SyncTokens)

    def aiokafka(self) -> dict:
        made = {"security_protocol": self.protocol}
        if self.authority:
            made["ssl_context"] = ssl.create_default_context(cafile=str(self.authority))
            if self.certificate:
                made["ssl_context"].load_cert_chain(*map(str, self.certificate))
        return made | self.python(AsyncTokens)

    def python(self, provider) -> dict:
        if self.mechanism is None:
            return {}
        if self.mechanism == "OAUTHBEARER":
            return {"sasl_mechanism": self.mechanism, "sasl_oauth_token_provider": provider(self.token)}
        return {
            "sasl_mechanism": self.mechanism, "sasl_plain_username": self.user, "sasl_plain_password": self.password,
        }  # fmt: skip


class Stand:
    """One engine and what its clients need."""

    def __init__(self, make, form, takes_tokens=False, **settings):
        self.engine = make(form)
        folder = self.engine.directory / "made"
        self.certificates = Certificates(folder)
        self.issuer = Issuer(folder)
        encrypted = self.certificates.settings() if form.endswith("tls") else {}
        tokens = self.issuer.settings() if takes_tokens else {}
        self.engine.settings |= {"MARTLET_KAFKA_SECURITY": form, "MARTLET_LOG_LEVEL": "trace"} | encrypted | tokens | settings
        if token := settings.get("MARTLET_TOKEN"):
            self.engine.token = self.engine.environment["MARTLET_TOKEN"] = token
        self.first = None
        # Held, since a client that goes away takes its answers with it.
        self.admins = []
        self.authority = self.certificates.authority if encrypted else None
        self.start()

    def start(self):
        self.engine.start()
        self.place = self.engine.get("engine")["kafka_address"]

    def user(self, name, password=PASSWORD):
        self.engine.cli("kafka", "users", "create", name, input=password + "\n")
        self.first = self.first or name
        return name

    def forgive(self):
        """Logs in once, so that failures before make the next one no slower."""
        with socket_to(self) as connection:
            assert handshake(connection, "PLAIN") == 0
            assert authenticate(connection, f"\0{self.first}\0{PASSWORD}".encode())[0] == 0

    def secured(self, user=None, mechanism="SCRAM-SHA-256", **more) -> Secured:
        return Secured(authority=self.authority, mechanism=mechanism, user=user, **more)

    def admin(self, secured) -> AdminClient:
        self.admins.append(AdminClient({"bootstrap.servers": self.place} | secured.librdkafka()))
        return self.admins[-1]

    def allow(self, user, operations, *resource):
        words = [word for operation in operations.split() for word in ("--operation", operation)]
        self.engine.cli("kafka", "acls", "create", "--user", user, *words, *resource)


def check_secrets(engine, *more):
    """No secret in the log or in the data directory."""
    secrets = [PASSWORD.encode(), b"wrong password", *(one.encode() for one in more)]
    files = [engine.log, *(path for path in engine.data.rglob("*") if path.is_file())]
    for path in files:
        content = path.read_bytes()
        for secret in secrets:
            assert secret not in content, f"{path} shows {secret}"


def refused(stand, secured) -> str:
    """What a client is told; it must not be let in."""
    errors = []
    if secured.mechanism:
        stand.forgive()
    client = AdminClient({"bootstrap.servers": stand.place, "error_cb": lambda error: errors.append(str(error))} | secured.librdkafka())
    with pytest.raises(confluent_kafka.KafkaException):
        client.list_topics(timeout=3)
    client.poll(0)
    return " ".join(errors)


def code_of_rules(stand, secured) -> int:
    """The error code a client gets who asks for the rules; confluent-kafka does not show it."""
    client = kafka.KafkaAdminClient(bootstrap_servers=stand.place, **secured.kafka_python())
    pattern = kafka.admin.ResourcePatternFilter(kafka.admin.ResourceType.ANY, None, kafka.admin.ACLResourcePatternType.ANY)
    try:
        client.describe_acls(kafka.admin.ACLFilter(None, None, kafka.admin.ACLOperation.ANY, kafka.admin.ACLPermissionType.ANY, pattern))
        return 0
    except kafka.errors.BrokerResponseError as error:
        return error.errno
    finally:
        client.close()


def socket_to(stand):
    connection = socket.create_connection(parse(stand.place), timeout=30)
    if stand.authority:
        context = ssl.create_default_context(cafile=str(stand.authority))
        connection = context.wrap_socket(connection, server_hostname="localhost")
    return connection


def exactly(connection, count):
    got = b""
    while len(got) < count:
        part = connection.recv(count - len(got))
        assert part, "the connection ended"
        got += part
    return got


def call(connection, api, version, body, correlation=5):
    packed = struct.pack(">hhih", api, version, correlation, -1) + body
    connection.sendall(struct.pack(">i", len(packed)) + packed)
    answer = exactly(connection, struct.unpack(">i", exactly(connection, 4))[0])
    assert struct.unpack_from(">i", answer)[0] == correlation
    return answer[4:]


def handshake(connection, mechanism, version=1):
    return struct.unpack_from(">h", call(connection, 17, version, struct.pack(">h", len(mechanism)) + mechanism.encode()))[0]


def authenticate(connection, message):
    answer = call(connection, 36, 1, struct.pack(">i", len(message)) + message)
    error, text = struct.unpack_from(">hh", answer)
    at = 4 + max(0, text)
    size = struct.unpack_from(">i", answer, at)[0]
    return error, answer[at + 4 : at + 4 + size], struct.unpack_from(">q", answer, at + 4 + size)[0]
