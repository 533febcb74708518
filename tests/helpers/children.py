"""Parts of a test run in a forked child, to be killed, or as another user."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable

from tests.helpers.as_user import become_nobody

FAILED = 99


def spawn(function: Callable[[], object], *, nobody: bool = False) -> int:
    """Run `function` in a forked child and return its pid; it exits with 0, or with FAILED."""
    pid = os.fork()
    if pid:
        return pid
    status = FAILED
    try:
        # A test's own handlers and a debugger's have no business in the child.
        signal.set_wakeup_fd(-1)
        if nobody:
            become_nobody()
        function()
        status = 0
    except BaseException:
        traceback.print_exc(file=sys.stderr)
        sys.stderr.flush()
    finally:
        os._exit(status)


def wait(pid: int) -> int:
    """Wait for a child; return its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run(function: Callable[[], object], *, nobody: bool = False) -> None:
    """Run `function` in a child; fail where it fails."""
    assert wait(spawn(function, nobody=nobody)) == 0, "the child failed; see its traceback"
