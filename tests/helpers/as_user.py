"""Run mount.pyunion and then a shell script, as an ordinary user or in a user namespace.

    python -m tests.helpers.as_user MODE SCRIPT HELPER-ARGUMENT...

MODE is "user" (uid 65534), or "namespace": root of a user namespace of uid
65534, with a mount namespace.  All that the helper imports is imported
beforehand, since that user may not be able to read this interpreter's home.
The exit status is the helper's, or that of SCRIPT (run by `sh -ec`) when the
helper succeeds.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from mount_tools.daemon import log, serve, supervise
from mount_tools.helper import main as mount_helper
from tests.helpers.mounts import DEADLINE
from unionfs.transports import dev_fuse

PRELOADED = [log, serve, supervise, dev_fuse]
if importlib.util.find_spec("pyfuse3") is not None:
    PRELOADED.append(importlib.import_module("unionfs.transports.pyfuse3_ops"))

NOBODY = 65534

PR_SET_DUMPABLE = 4
PR_SET_SECUREBITS = 28
CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000


def become_nobody() -> None:
    # A union opened in the test's process has set SECBIT_NO_SETUID_FIXUP, and a
    # change of ids would keep the capabilities.
    ctypes.CDLL(None).prctl(PR_SET_SECUREBITS, 0, 0, 0, 0)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def enter_namespaces() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    # Having changed its ids, a process may not write its own uid_map until it may be dumped.
    libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0:
        code = ctypes.get_errno()
        sys.exit(f"unshare: {os.strerror(code)}")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {NOBODY} 1")
    Path("/proc/self/gid_map").write_text(f"0 {NOBODY} 1")


def main() -> int:
    mode, script, *arguments = sys.argv[1:]
    become_nobody()
    if mode == "namespace":
        enter_namespaces()
    status = mount_helper.main(arguments)
    if status != 0:
        return status
    return subprocess.run(["sh", "-ec", script], timeout=DEADLINE, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
