# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""A small tree that passes every check, for tests to put one fault into."""

import importlib.machinery
import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[1]
HEAD = "// Martlet: a self-hosted data engine.\n// SPDX-License-Identifier: Apache-2.0\n\n"
PYTHON_HEAD = "# Martlet: a self-hosted data engine.\n# SPDX-License-Identifier: Apache-2.0\n"

FILES = {
    "Package.swift": "// swift-tools-version: 6.3\n" + HEAD
    + 'import PackageDescription\n\nlet package = Package(name: "Small", targets: [.target(name: "MartletCore"), .target(name: "Documents")])\n',
    "Sources/MartletCore/Box.swift": HEAD
    + "/// A box.\npackage struct Box {\n    package var width: Int\n\n    package init(width: Int) {\n        self.width = width\n    }\n\n"
    + "    /// How much fits into it.\n    package func volume(times: Int) -> Int {\n        width * times\n    }\n}\n",
    "Sources/Documents/Reader.swift": HEAD + "import MartletCore\n\nfunc read() -> Box {\n    Box(width: 1)\n}\n",
    "sdk/small.py": PYTHON_HEAD + "\nVALUE = 1\n",
    "Tools/go": "#!/usr/bin/env bash\n" + PYTHON_HEAD + "echo go\n",
    "Makefile": PYTHON_HEAD + "\n.PHONY: help\n\nhelp:  ## Show this\n\t@echo help\n",
    "README.md": "# Small\n\nSee [the box](docs/box.md#the-box).\n",
    "docs/box.md": "# The box\n",
}


def load():
    loader = importlib.machinery.SourceFileLoader("check", str(TOOLS / "check"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("check", loader))
    loader.exec_module(module)
    return module


CHECK = load()


class SmallTree:
    def __init__(self, root):
        self.root = root
        for path, text in FILES.items():
            self.write(path, text)
        (root / "Tools/go").chmod(0o755)
        shutil.copy(TOOLS.parent / ".swift-format", root / ".swift-format")
        subprocess.run(["git", "init", "-q", str(root)], check=True)

    def write(self, path, text):
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def append(self, path, text):
        self.write(path, (self.root / path).read_text() + text)

    def faults(self, name):
        tree = CHECK.Tree(self.root)
        return [f"{fault.path}:{fault.line}: {fault.text}" for fault in CHECK.CHECKS[name](tree)]


@pytest.fixture
def check():
    return CHECK


@pytest.fixture
def small(tmp_path):
    return SmallTree(tmp_path)
