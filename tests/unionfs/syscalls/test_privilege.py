"""What a process may do to the machine: root may, root of a user namespace may not."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.helpers.mounts import helper_environment, require_root

ASK = "from unionfs.syscalls.privilege import has_machine_caps; print(has_machine_caps())"


@pytest.mark.parametrize(
    ("prefix", "answer"),
    [
        ([], "True"),
        (["unshare", "--user", "--map-root-user"], "False"),
        (["setpriv", "--bounding-set=-sys_admin"], "False"),
    ],
)
def test_root_of_the_machine_is_told_from_root_of_a_namespace(
    prefix: list[str], answer: str
) -> None:
    require_root()
    done = subprocess.run(
        [*prefix, sys.executable, "-c", ASK],
        env=helper_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == answer
