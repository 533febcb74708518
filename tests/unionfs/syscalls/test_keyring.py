"""A process with a session keyring of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.children import run
from unionfs.syscalls.keyring import join_new_session


def test_the_session_is_another_one() -> None:
    keys = Path("/proc/keys")
    if not keys.exists():
        pytest.skip("this kernel has no keyrings, or does not show them")

    def sessions() -> list[str]:
        lines = keys.read_text().splitlines()
        return [line for line in lines if " keyring " in line and "_ses" in line.split()[-2:][0]]

    def check() -> None:
        before = sessions()
        join_new_session()
        assert sessions() != before

    run(check)
