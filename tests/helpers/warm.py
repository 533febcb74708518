"""`pyunion` in forks of one process that has imported what a build needs.

The start of an interpreter and these imports take longer than most of the builds of the tests.
"""

from __future__ import annotations

import gc
import importlib
import os
import pickle
import pkgutil
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence

import mount_tools.build
from mount_tools.pyunion import main
from tests.helpers.mounts import DEADLINE, helper_environment
from tests.helpers.processes import end

_LARGEST = 1 << 18  # bytes of a command line with its environment
_BESIDE = ("mount_tools.cli.main", "mount_tools.cli.commands.build_cmd", "layerstore.layer.pack")


class Warm:
    """The process; it ends when `close` is called, or with this one."""

    def __init__(self) -> None:
        self._end, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            line = f"from tests.helpers.warm import serve; serve({theirs.fileno()})"
            self._process = subprocess.Popen(
                [sys.executable, "-c", line],
                stdin=subprocess.DEVNULL,
                env=helper_environment(),
                pass_fds=(theirs.fileno(),),
            )

    def run(self, *words: str, timeout: float = DEADLINE) -> subprocess.CompletedProcess[str]:
        """Run `pyunion` with `words`, in our environment, directory and umask."""
        umask = os.umask(0)
        os.umask(umask)
        order = pickle.dumps((words, helper_environment(), os.getcwd(), umask))
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            socket.send_fds(self._end, [order], [out.fileno(), err.fileno()])
            if not select.select([self._end], [], [], timeout)[0]:
                self._process.kill()
                raise subprocess.TimeoutExpired(words, timeout)
            status = int.from_bytes(self._end.recv(8), "little", signed=True)
            said = []
            for file in (out, err):
                file.seek(0)
                said.append(file.read().decode())
        return subprocess.CompletedProcess(words, status, *said)

    def close(self) -> None:
        """End the process."""
        self._end.close()
        self._process.wait(DEADLINE)
        end(self._process)


def serve(number: int) -> None:
    """Import what a build needs; then run each command that comes in a fork."""
    beneath = (found.name for found in pkgutil.iter_modules(mount_tools.build.__path__))
    for name in (*_BESIDE, *(f"mount_tools.build.{name}" for name in beneath)):
        importlib.import_module(name)
    gc.freeze()
    with socket.socket(fileno=number) as connection:
        while True:
            order, fds, _, _ = socket.recv_fds(connection, _LARGEST, 2)
            if not order:
                return
            child = os.fork()
            if child == 0:
                connection.close()
                words, env, directory, umask = pickle.loads(order)
                _become(words, env, directory, umask, fds)
            for fd in fds:
                os.close(fd)
            _, status = os.waitpid(child, 0)
            code = os.waitstatus_to_exitcode(status)
            connection.send(code.to_bytes(8, "little", signed=True))


def _become(
    words: Sequence[str], env: dict[str, str], directory: str, umask: int, fds: Sequence[int]
) -> None:
    status = 255
    try:
        for fd, number in zip(fds, (1, 2), strict=True):
            os.dup2(fd, number)
            os.close(fd)
        os.environ.clear()
        os.environ.update(env)
        os.chdir(directory)
        os.umask(umask)
        status = main(words)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)
