"""pathlib comes without urllib.parse, and does what it does with it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.helpers.mounts import DEADLINE

IMPORTED = """
import sys
from layerstore import light_pathlib
assert not {"ipaddress", "urllib.parse"} & set(sys.modules)
from pathlib import Path
"""


@pytest.mark.parametrize(
    "program",
    [
        "assert Path('/a b').as_uri() == 'file:///a%20b'",
        "import urllib.parse; assert urllib.parse.urlsplit('http://a/b').path == '/b'",
        "from urllib import parse; assert parse.quote('a b') == 'a%20b'",
    ],
)
def test_urls_are_left_to_those_who_use_them(program: str) -> None:
    run(IMPORTED + program)


@pytest.mark.parametrize("first", ["pathlib", "urllib.parse"])
def test_what_is_there_already_stays(first: str) -> None:
    run(
        f"import sys, {first}\nbefore = sys.modules['{first}']\n"
        f"from layerstore import light_pathlib\nassert sys.modules['{first}'] is before\n"
        "import pathlib, urllib.parse\nassert pathlib.Path('/a b').as_uri() == 'file:///a%20b'"
    )


def run(program: str) -> None:
    subprocess.run([sys.executable, "-c", program], check=True, timeout=DEADLINE)
