"""The shape of the house: what the setup promises, the imports and the sizes."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mirror import untested

TOP = Path(__file__).resolve().parent.parent
PRODUCT = ("unionfs", "layerstore", "mount_tools")
MODULES = sorted(module for name in PRODUCT for module in (TOP / name).rglob("*.py"))
BENCHMARKS = sorted((TOP / "benchmarks").rglob("*.py"))


def test_imports_keep_their_contracts() -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    if not lint_imports.exists():
        pytest.skip("import-linter is not installed; `make lint` runs it too")
    done = subprocess.run([lint_imports], cwd=TOP, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_package_is_installed() -> None:
    setup = configparser.ConfigParser()
    setup.read(TOP / "setup.cfg")
    listed = set(setup["options"]["packages"].split())
    there = {".".join(m.parent.relative_to(TOP).parts) for m in MODULES}
    assert listed == there, "setup.cfg lists the packages one by one"


@pytest.mark.parametrize("module", MODULES + BENCHMARKS, ids=lambda m: str(m.relative_to(TOP)))
def test_module_says_what_it_decides_and_stays_small(module: Path) -> None:
    source = module.read_text()
    tree = ast.parse(source)
    assert ast.get_docstring(tree), "no module docstring"
    assert source.count("\n") <= 600, "split it by concern"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 60, f"{node.name} is too long"


def test_every_module_has_a_test_of_its_own() -> None:
    assert untested() == [], "see `python -m tests.mirror`"


def test_readme_names_make_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (TOP / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)", (TOP / "README.md").read_text()))
    assert named <= targets
    assert {"demo", "test"} <= named
