# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""The API answers as its own description says, whatever is sent: no 5xx, no undocumented status, type or shape."""

import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from conftest import PROGRAM, demo

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def test_every_operation_answers_as_described():
    seed = os.environ.get("MARTLET_TEST_SEED") or str(random.randrange(2**31))
    print(f"MARTLET_TEST_SEED={seed}")
    directory = Path(tempfile.mkdtemp(prefix="martlet-api-")).resolve()
    engine = demo.Engine(PROGRAM, directory)
    try:
        engine.start()
        command = [
            Path(sys.executable).parent / "schemathesis", "run", f"{engine.server}/openapi.json",
            "--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--max-examples", "20", "--seed", seed,
            "--continue-on-failure", "--generation-database", "none", "--no-color",
            # A tar archive: nothing generates one.
            "--exclude-operation-id", "build_bundle",
        ]  # fmt: skip
        result = subprocess.run(command, capture_output=True, text=True, cwd=directory, timeout=900)
        engine.check_alive()
        assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-2000:]
        assert engine.stop(), "the engine did not stop in order"
    finally:
        engine.stop()
        shutil.rmtree(directory, ignore_errors=True)
