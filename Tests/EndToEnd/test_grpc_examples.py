# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""The examples of gRPC's clients, as a newcomer runs them."""

import os
import subprocess
import sys

import pytest
from harness import ROOT

SWIFT = ROOT / ".build/release/grpc-example"


def run(engine, file, *arguments, input=""):
    environment = os.environ | {"PYTHONPATH": str(ROOT / "sdk/python/src")}
    address = engine.get("engine")["grpc_address"]
    done = subprocess.run(
        [sys.executable, ROOT / "examples/grpc-python" / file, "--address", address, *arguments],
        input=input, capture_output=True, text=True, timeout=60, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_python(engine):
    engine.cli("topics", "create", "readings", "--partitions", "3")
    lines = run(engine, "publish.py", "--count", "5").splitlines()
    assert len(lines) == 5 and all("is on disk: readings" in line for line in lines)
    assert run(engine, "stream.py", input="".join(f"{n}\n" for n in range(500))) == "500 lines are on disk, 0 were refused\n"
    first = run(engine, "subscribe.py", "--count", "200").splitlines()
    second = run(engine, "subscribe.py", "--count", "305").splitlines()
    places = [line.split()[0] for line in first + second]
    assert len(places) == len(set(places)) == 505
    assert engine.ask("groups", "get", "printers")["lag_records"] == 0


@pytest.mark.skipif(not SWIFT.exists(), reason="not built: swift build -c release --product grpc-example")
def test_swift(engine):
    engine.cli("topics", "create", "readings", "--partitions", "3")
    port = engine.get("engine")["grpc_address"].rpartition(":")[2]
    done = subprocess.run([SWIFT, port, "readings"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == [
        "published a batch: 10 of 10", "published a stream: 10 of 10 acknowledged", "read and acknowledged: 21",
    ]  # fmt: skip
