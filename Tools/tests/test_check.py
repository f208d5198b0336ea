# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Each check finds a fault that was put into a sound tree, and nothing in the sound tree."""

import subprocess
import sys

import pytest
from conftest import CHECK, HEAD, PYTHON_HEAD, TOOLS

BOX = "Sources/MartletCore/Box.swift"


@pytest.mark.parametrize("name", CHECK.CHECKS)
def test_a_sound_tree_has_no_fault(small, name):
    assert small.faults(name) == []


def body(lines):
    return "func long() {\n" + "    work()\n" * lines + "}\n"


# check, file, what is appended, what the fault says; the text `NEW ` replaces the file.
FAULTS = [
    ("format", BOX, "func  f(){}\n", ""),
    ("licence", "Sources/MartletCore/New.swift", "NEW let x = 1\n", "must start with"),
    ("licence", "sdk/new.py", "NEW x = 1\n", "must start with"),
    ("licence", "Sources/CThing/thing.h", "NEW int x;\n", "must start with"),
    ("licence", "Tools/new", "NEW #!/bin/sh\necho\n", "must start with"),
    ("safety", BOX, "final class A: @unchecked Sendable {}\n", "@unchecked Sendable"),
    ("safety", BOX, "nonisolated(unsafe) var a = 1\n", "nonisolated(unsafe)"),
    ("safety", BOX, "// A comment about something else.\n@preconcurrency import Foundation\n", "@preconcurrency"),
    ("banned", BOX, "let a = try! f()\n", "try!"),
    ("banned", BOX, "let a = b as! Int\n", "as!"),
    ("banned", BOX, "func g() { fatalError() }\n", "fatalError"),
    ("banned", BOX, 'func g() { fatalError("") }\n', "fatalError"),
    ("banned", BOX, "let t = Task.detached { }\n", "Task.detached"),
    ("banned", BOX, 'func g() { print("x") }\n', "print("),
    ("banned", BOX, "// FIX" "ME later\n", "FIX" "ME"),
    ("banned", "sdk/small.py", "# TO" "DO: later\n", "TO" "DO(#number)"),
    ("lengths", BOX, body(69), "'func long' has 71 lines"),
    ("lengths", BOX, "struct S {\n    init(\n        a: Int\n    ) {\n" + "        work()\n" * 70 + "    }\n}\n", "'init'"),
    ("lengths", BOX, "let a = 1\n" * 800, "the file has"),
    ("documentation", BOX, "package struct Lid {}\n", "struct 'Lid'"),
    ("documentation", BOX, "package func open(_ box: Box, by caller: String) {}\n", "'open(_:by:)'"),
    ("documentation", BOX, "package enum Lid {\n    package static var size: Int {\n        1\n    }\n}\n", "'size'"),
    ("documentation", BOX, "extension Box {\n    package init(_ text: String) throws {\n        try check(text)\n    }\n}\n", "init(_:)"),
    ("imports", BOX, "import Documents\n", "must not import Documents"),
    ("imports", BOX, "package import struct GRDB.Row\n", "GRDB belongs to Catalog"),
    ("imports", "Sources/Novelty/New.swift", "NEW " + HEAD + "let x = 1\n", "no layer"),
    ("dead", "Sources/Lake/New.swift", "NEW " + HEAD + "let x = 1\n", "no target builds Sources/Lake"),
    ("dead", "Tests/LakeTests/New.swift", "NEW " + HEAD + "let x = 1\n", "no target builds Tests/LakeTests"),
    ("dead", "Package.swift", '// exclude: ["Box.swift"]\n', "leaves files out"),
    ("dead", "docs/empty.md", "NEW \n", "the file is empty"),
    ("dead", "Makefile", "\nnew:  ## A target\n\t@echo\n", "not in .PHONY"),
    ("dead", "Makefile", "\n.PHONY: help\n\nnew:\n\t@echo\n", "no '## text'"),
    ("links", "README.md", "[gone](docs/gone.md)\n", "docs/gone.md does not exist"),
    ("links", "README.md", "[gone](docs/box.md#lid)\n", "no heading #lid"),
    ("places", "README.md", "See /ho" "me/someone/file\n", "of one machine"),
    ("places", "sdk/small.py", '# https://py' 'pi.org/project/x\n', "registry"),
    ("syntax", "sdk/small.py", "def f(:\n", "syntax error"),
    ("syntax", "Tools/go", "if true; then\n", "syntax error"),
]  # fmt: skip


@pytest.mark.parametrize("name, path, text, expected", FAULTS)
def test_a_fault_is_found(small, name, path, text, expected):
    if text.startswith("NEW "):
        small.write(path, text.removeprefix("NEW "))
    else:
        small.append(path, text)
    faults = small.faults(name)
    assert faults, "nothing was found"
    assert any(path.split("/")[0] in fault and expected in fault for fault in faults), faults


def test_a_script_that_cannot_be_run_is_found(small):
    (small.root / "Tools/go").chmod(0o644)
    assert small.faults("syntax") == ["Tools/go:1: the script is not executable"]


# What looks like a fault and is none.
HARMLESS = [
    ("safety", BOX, "// SAFETY: guarded by the lock in init.\nfinal class A: @unchecked Sendable {}\n"),
    ("safety", BOX, "/// Docs.\n// SAFETY: made once.\n@frozen\nstruct A: @unchecked Sendable {}\n"),
    ("banned", BOX, 'let a = "try! as! Task.detached print("\n// try! as! print(\n'),
    ("banned", BOX, 'let a = """\n    try! \\(f("as! print(")) Task.detached\n    """\n'),
    ("banned", BOX, 'let a = #"try! " print("#\n'),
    ("banned", BOX, "/* try! /* as! */ print( */\n"),
    ("banned", BOX, 'func g() { fatalError("the state was checked in init") }\nlet h = client.print(1)\n'),
    ("banned", BOX, "// TODO(#12): widen\n"),
    ("lengths", BOX, body(68)),
    ("lengths", BOX, "protocol P {\n    func f()\n    init(x: Int)\n}\n" + "let a = 1\n" * 80),
    ("documentation", BOX, "/// Docs.\n@available(*, deprecated)\npackage struct Lid {}\n"),
    ("documentation", BOX, "extension Box {\n    package static func == (left: Box, right: Box) -> Bool {\n        true\n    }\n}\n"),
    ("documentation", BOX, "/// P.\npackage protocol P {\n    func f(to x: Int)\n}\n\nextension Box: P {\n    package func f(to x: Int) {}\n}\n"),
    ("links", "README.md", "`[a](b.md)`\n\n```\n[a](c.md)\n```\n\n[web](https://example.com/x)\n"),
    ("places", "README.md", "Files live in the home directory, `~/.martlet`.\n"),
]


@pytest.mark.parametrize("name, path, text", HARMLESS)
def test_what_is_no_fault_passes(small, name, path, text):
    small.append(path, text)
    assert small.faults(name) == []


def test_the_text_keeps_its_length_and_lines(check):
    text = 'let a = "x\\(f("y"))z" // c\nlet b = """\n  "quoted" \\(a)\n  """ /* n /* m */ */\n'
    code = check.blank(text)
    assert len(code) == len(text)
    assert code.count("\n") == text.count("\n")
    assert "quoted" not in code and "// c" not in code and "let b" in code


def test_an_unknown_name_is_refused(check, capsys):
    assert check.main(["nothing"]) == 2
    assert "no check is called nothing" in capsys.readouterr().err


def test_python_head_is_accepted_after_a_shebang(small):
    small.write("Tools/run.py", "#!/usr/bin/env python3\n" + PYTHON_HEAD)
    assert small.faults("licence") == []


GENERATOR = "#!/usr/bin/env python3\n" + PYTHON_HEAD + "import sys\nsys.exit('a file differs' if {} else 0)\n"


def run(small, *names):
    """The check as a command, over the small tree; its exit code and what it said."""
    small.write("Tools/check", (TOOLS / "check").read_text())
    (small.root / "Tools/check").chmod(0o755)
    done = subprocess.run([sys.executable, small.root / "Tools/check", *names], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def give_generator(small, differs):
    small.write("Tools/generate", GENERATOR.format(differs))
    (small.root / "Tools/generate").chmod(0o755)


def give_tools(small):
    for tool in (".venv/bin/python", ".build/release/protoc-gen-swift", ".build/release/protoc-gen-grpc-swift-2"):
        (small.root / tool).parent.mkdir(parents=True, exist_ok=True)
        (small.root / tool).symlink_to(sys.executable)


def test_generated_code_is_not_passed_over_where_tools_are_missing(small):
    give_generator(small, differs=False)
    code, said = run(small, "generated")
    assert code == 1 and "protoc-gen-swift" in said and "make check-generated" in said, said
    code, said = run(small)
    assert code == 0 and "note: what it writes was not looked at" in said, said


@pytest.mark.parametrize("differs", [False, True])
def test_generated_code_is_compared_where_the_tools_are(small, differs):
    give_tools(small)
    give_generator(small, differs)
    code, said = run(small, "generated")
    assert code == int(differs) and ("a file differs" in said) == differs, said


def test_every_generator_is_checked(check):
    found = subprocess.run(
        ["git", "-C", str(TOOLS.parent), "grep", "-l", "-e", 'add_argument("--check"', "--", "Tools", "Tests/Fixtures", ":!Tools/tests"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert set(found.stdout.split()) == set(check.GENERATORS)
