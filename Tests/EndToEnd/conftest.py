# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""The real program with the pipeline of examples/exr-inspector deployed, driven through the command line."""

import importlib.util
import os
import re
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import confluent_kafka.admin
import grpc_client
import harness
import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/exr-inspector"
PROGRAM = harness.PROGRAM
# Logs of engines whose test failed.
KEPT = Path(os.environ.get("MARTLET_KEPT_LOGS") or ROOT / ".build/end-to-end")
SHARED = Path(os.environ.get("EXR_DIR") or ROOT.parent / "shared/data/exr")


def load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


demo = load(EXAMPLE / "demo.py")
openexr_tools = load(EXAMPLE / "tests/openexr_tools.py")


class Deployment:
    """An engine and the folder it watches."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.engine = demo.Engine(PROGRAM, directory)
        self.demo = demo.Demo(self.engine, directory)

    def sql(self, statement: str, *parameters: str) -> list[dict]:
        given = [word for value in parameters for word in ("-p", value)]
        return self.engine.items("sql", statement, "--limit", "1000000", *given)

    def until(self, check, what: str, seconds: float = 60):
        """The first true answer of `check`."""
        deadline = time.monotonic() + seconds
        while True:
            found = check()
            if found:
                return found
            assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s; log: {self.engine.log}"
            time.sleep(0.05)

    def paths(self) -> set[str]:
        return self.engine.files_known()


@pytest.fixture(scope="session")
def deployment():
    directory = Path(tempfile.mkdtemp(prefix="martlet-e2e-")).resolve()
    deployment = Deployment(directory)
    try:
        deployment.engine.start()
        deployment.demo.register()
        given = SHARED if SHARED.is_dir() else None
        deployment.keys = deployment.demo.make_files(98, 7, given)
        shutil.copytree(deployment.demo.staging, directory / "originals")
        for key in deployment.keys:
            deployment.demo.move(key)
        deployment.demo.wait(deployment.keys, show=False)
        yield deployment
    except BaseException:
        print((directory / "engine.log").read_text(errors="replace")[-5000:] if (directory / "engine.log").exists() else "")
        raise
    finally:
        stopped = deployment.engine.stop()
        shutil.rmtree(directory, ignore_errors=True)
        assert stopped, "the engine did not stop in order"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        item.session.stash.setdefault(FAILED, set()).add(item.nodeid)


FAILED = pytest.StashKey[set]()


@contextmanager
def engines(request):
    """Makes engines below one temporary directory; ends them all and keeps their logs where a test of the scope failed."""
    directory = Path(tempfile.mkdtemp(prefix="martlet-e2e-")).resolve()
    made: list[harness.Engine] = []

    def make(name: str = "engine", **options) -> harness.Engine:
        engine = harness.Engine(directory / name, **options)
        made.append(engine)
        return engine

    try:
        yield make
    finally:
        failed = [node for node in request.session.stash.get(FAILED, set()) if node.startswith(request.node.nodeid)]
        for engine in made:
            engine.clean_up()
            if failed and engine.log.exists():
                KEPT.mkdir(parents=True, exist_ok=True)
                kept = KEPT / (re.sub(r"\W+", "-", f"{request.node.nodeid}-{engine.directory.name}") + ".log")
                shutil.copyfile(engine.log, kept)
                print(f"log of {engine.directory.name}: {kept}")
        if failed and os.environ.get("MARTLET_KEEP_DATA"):
            print(f"data: {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def make_engine(request):
    with engines(request) as make:
        yield make


@pytest.fixture
def engine(make_engine):
    """An engine of the test's own."""
    engine = make_engine()
    engine.start()
    return engine


@pytest.fixture(scope="module")
def shared(request):
    """One engine for the tests of a file; each uses names of its own and leaves the others alone."""
    with engines(request) as make:
        engine = make()
        engine.start()
        yield engine
        assert engine.process.poll() is None, f"the engine ended\n{engine.log_tail()}"
        assert engine.stop() == 0, f"the engine did not stop in order\n{engine.log_tail()}"


@pytest.fixture(scope="module")
def place(engine):
    """Where Kafka's clients find the engine; for files whose `engine` is one for all of their tests."""
    return engine.get("engine")["kafka_address"]


@pytest.fixture(scope="module")
def client(engine):
    """gRPC's stubs for it."""
    client = grpc_client.Client(engine)
    yield client
    client.close()


@pytest.fixture(scope="module")
def admin(place):
    """confluent-kafka's administrator there."""
    return confluent_kafka.admin.AdminClient({"bootstrap.servers": place})
