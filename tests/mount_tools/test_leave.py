"""A command that ends at once: nothing is lost, and nothing of the interpreter is run any more."""

from __future__ import annotations

import os
import subprocess
import sys

from mount_tools.leave import exit_code
from tests.helpers.mounts import DEADLINE, helper_environment


def ended(script: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", f"from mount_tools.leave import leave\n{script}"],
        env=helper_environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_what_is_buffered_is_written_and_no_handler_is_called() -> None:
    script = """
import atexit, sys
atexit.register(lambda: print("finalised"))
print("out", end="")
print("err", end="", file=sys.stderr)
leave(7)
"""
    assert ended(script) == (7, "out", "err")


def test_closed_streams_are_no_error() -> None:
    assert ended("import sys\nsys.stdout.close()\nsys.stderr = None\nleave(3)") == (3, "", "")


def test_a_thread_ends_by_itself() -> None:
    script = """
import threading
def work():
    threading.main_thread().join()
    print("done")
threading.Thread(target=work).start()
leave(5)
"""
    assert ended(script) == (5, "done\n", "")


def test_exit_codes_are_those_of_a_shell() -> None:
    for script, code in (("exit 3", 3), ("kill -9 $$", 137), ("kill -TERM $$", 143)):
        process = subprocess.Popen(["sh", "-c", script])
        _, status = os.waitpid(process.pid, 0)
        process.returncode = status
        assert exit_code(status) == code
