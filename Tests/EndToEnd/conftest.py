# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""The real program with the pipeline of examples/exr-inspector deployed, driven through the command line."""

import importlib.util
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/exr-inspector"
PROGRAM = Path(os.environ.get("MARTLET_PROGRAM") or ROOT / ".build/release/martlet")
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
