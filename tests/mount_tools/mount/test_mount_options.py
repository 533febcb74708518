"""Options without words are those of a mount that nobody said anything about."""

from __future__ import annotations

import subprocess
import sys

from mount_tools.mount.mount_options import MountOptions
from mount_tools.mount.options import parse_options
from unionfs import UnionConfig


def test_the_defaults_are_those_of_no_words() -> None:
    config = UnionConfig(lowers=(b"/l",), upper=b"/u", work=b"/w")
    words = ["lowerdir=/l,upperdir=/u,workdir=/w"]
    assert parse_options(words, privileged=False) == MountOptions(config)


def test_they_need_no_grammar() -> None:
    code = (
        "import sys, mount_tools.mount.mount_options\n"
        "assert not [n for n in sys.modules if n.startswith('mount_tools.mount.option_')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
