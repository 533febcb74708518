"""Run commands one after another as an ordinary user (uid 65534), `pyunion` among them.

    python -m tests.helpers.pyunion_as_user < COMMANDS

Each line of COMMANDS is a JSON array of words.  What `pyunion` and `mount.pyunion`
import is imported beforehand, since that user may not be able to read this
interpreter's home; they run in forks, all else as programs.  The first that fails
is the last, and its status that of all.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import pkgutil
import subprocess
import sys
import traceback

import layerstore
import mount_tools
import unionfs
from tests.helpers.as_user import PR_SET_DUMPABLE, become_nobody
from tests.helpers.mounts import DEADLINE

PROGRAMS = {"pyunion": "mount_tools.pyunion", "mount.pyunion": "mount_tools.helper.main"}


def preload() -> None:
    for package in (unionfs, layerstore, mount_tools):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)


def run(words: list[str]) -> int:
    module = PROGRAMS.get(words[0])
    if module is None:
        return subprocess.run(words, check=False, timeout=DEADLINE).returncode
    child = os.fork()
    if child == 0:
        status = 99
        try:
            status = importlib.import_module(module).main(words[1:])
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> int:
    preload()
    commands = [json.loads(line) for line in sys.stdin]
    become_nobody()
    # As a program that this user started would be: else its /proc/self is root's.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    for words in commands:
        status = run(words)
        if status != 0:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
