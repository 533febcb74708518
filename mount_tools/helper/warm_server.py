"""The warm helper: a process that has imported everything, and forks ready-made daemons.

Decided here and only here: when it begins, which processes it serves, and when it ends.  The
daemon of a mount forks it off before it opens the union, with nothing but the modules in
memory.  It serves processes that have the rights, limits and namespaces of the one that it
comes from (see `warm_client.describe`).  The kernel says which process has connected, and
that process is looked at; what it says about itself does not count.  What the kernel does not
show, the rules of Landlock, a client has to prove (see `warm_client.open_proof`).  The helper
ends after `IDLE` seconds without a request, and when the files of its modules, its interpreter
or its own control group have changed.

Threading: one thread, so that it can fork.

Source: unix(7) "SO_PEERCRED"; SO_PEERPIDFD is in Linux since 6.5.
"""

from __future__ import annotations

import fcntl
import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from mount_tools.daemon.after_fork import close_all_but, forget_descriptors, release_stdio
from mount_tools.daemon.detach import Serve, run_child, serve_and_report
from mount_tools.daemon.report import Reporter
from mount_tools.helper.warm_client import PROOF, SO_PEERPIDFD, Here, describe_peer
from unionfs import light_socket as socket
from unionfs.light_signal import signal
from unionfs.light_typing import TYPE_CHECKING
from unionfs.syscalls.children import keep_no_zombies

if TYPE_CHECKING:
    from typing import NoReturn

IDLE = 20.0
"""Seconds without a request after which the helper ends."""

_BACKLOG = 64
_MOST_BYTES = 1 << 20
_FDS = 6  # those of `warm_client`: 0, 1, 2, the working directory, the pipe, the proof

Ready = Callable[[str, list[str]], Serve | None]
"""Returns what a program with these arguments serves; None if it has to do that by itself."""


def begin(at: Here, ready: Ready) -> None:
    """Fork the helper off, for mounts like this one, unless there is one.

    The caller has imported what a mount needs, and has one thread.
    """
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    # Nothing may return into the frames of the daemon.
    try:
        if os.fork() == 0:
            _become(at, ready)
    finally:
        os._exit(0)


def _become(at: Here, ready: Ready) -> None:
    os.setsid()
    os.chdir("/")
    forget_descriptors()
    close_all_but()
    release_stdio()
    # The last thread of a daemon and a parent that waits for it remove the same entries of /proc.
    # The thread is under SCHED_IDLE, and the kernel lets the parent spin until it runs again:
    # tens of ms, in which the next mount would wait.
    keep_no_zombies()
    _show_as("mount.pyunion", "warm", "helper")
    listener = listen(at.path) if knows_peers() else None
    if listener is not None:
        Helper(at, listener, ready).run()


def knows_peers() -> bool:
    """Tell whether the kernel says which process has connected, without which none is served."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.close(one.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD))
    except OSError:
        return False
    finally:
        one.close()
        other.close()
    return True


def listen(path: str) -> socket.socket | None:
    """Return the socket at `path`; None if another helper has it."""
    lock = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _answers(path):
            return None
        with suppress(FileNotFoundError):
            os.unlink(path)  # of a helper that was killed
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(path)
        listener.listen(_BACKLOG)
        return listener
    finally:
        os.close(lock)


def _answers(path: str) -> bool:
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        return probe.connect_ex(path) == 0
    finally:
        probe.close()


class Helper:
    """The helper, listening.  The files of its modules are noted as they are now."""

    def __init__(self, at: Here, listener: socket.socket, ready: Ready) -> None:
        self._at = at
        self._listener = listener
        self._ready = ready
        self._socket = os.stat(at.path)
        self._cgroup = _cgroup()
        self._files = files_of_modules()
        self._code = looks(self._files)

    def run(self) -> None:
        """Serve until nobody asks any more."""
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        try:
            while poll.poll(IDLE * 1000):
                if self._cgroup != _cgroup() or self._code != looks(self._files):
                    break
                self._serve_one()
        finally:
            # Those who have connected meanwhile are refused, and mount by themselves.
            with suppress(OSError):
                if os.path.samestat(os.stat(self._at.path), self._socket):
                    os.unlink(self._at.path)
            self._listener.close()

    def _serve_one(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            fds: list[int] = []
            try:
                if not self._is_like_us(connection):
                    return
                connection.settimeout(1.0)
                message, fds, flags, _ = socket.recv_fds(connection, _MOST_BYTES, _FDS)
                whole = len(fds) == _FDS and not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
                if whole and _proves_rights(fds[-1]):
                    self._fork(message, fds[:-1])
            except OSError:
                return  # the caller is gone, or mounts by itself
            finally:
                for fd in fds:
                    os.close(fd)

    def _is_like_us(self, connection: socket.socket) -> bool:
        """Tell whether the process that has connected may do what the helper may, and as it."""
        pidfd = connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
        try:
            _, seen = describe_peer(pidfd)
        finally:
            os.close(pidfd)
        return seen == self._at.description

    def _fork(self, message: bytes, fds: list[int]) -> None:
        if os.fork():
            return
        try:
            self._listener.close()
            _mount_as_daemon(message, fds, self._ready)
        finally:
            os._exit(1)


def _proves_rights(proof: int) -> bool:
    """Tell whether `proof` is what only a process with our rights could open."""
    if fcntl.fcntl(proof, fcntl.F_GETFL) & os.O_PATH:
        return False  # for that the kernel asks for no rights
    return os.path.samestat(os.fstat(proof), os.stat(f"/proc/self/{PROOF}"))


def _mount_as_daemon(message: bytes, fds: list[int], ready: Ready) -> NoReturn:
    """Become the daemon of the mount that `message` asks for."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    program, count, *words = map(os.fsdecode, message.split(b"\0"))
    arguments, variables = words[: int(count)], words[int(count) :]
    take_environment(variables)
    *standard, cwd, pipe = fds
    for number, fd in enumerate(standard):
        os.dup2(fd, number)
    os.fchdir(cwd)
    serve = ready(program, arguments)
    if serve is None:
        os._exit(0)
    _show_as(program, *arguments)
    # Only now: without a pid the caller mounts by itself.  If it has done so, this fails.
    os.write(pipe, os.getpid().to_bytes(4, "little"))
    run_child(partial(serve_and_report, serve), Reporter(pipe))


def _show_as(program: str, *arguments: str) -> None:
    """Let ps(1) show this command line instead of that of the first mount."""
    from mount_tools.container.process_title import set_process_title

    name = os.path.basename(program)
    set_process_title(" ".join((program, *arguments)), name=name, cut=True)


def _cgroup() -> bytes:
    with open("/proc/self/cgroup", "rb") as file:
        return file.read()


def take_environment(variables: list[str]) -> None:
    """Make `variables`, each NAME=VALUE, the environment; most of them are there already."""
    wanted = dict(variable.partition("=")[::2] for variable in variables)
    for name in os.environ.keys() - wanted.keys():
        del os.environ[name]
    for name, value in wanted.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def files_of_modules() -> tuple[str, ...]:
    """Return the files of our modules and of Python."""
    ours = ("unionfs", "mount_tools")
    found = (
        getattr(module, "__file__", None)
        for name, module in sys.modules.items()
        if name.partition(".")[0] in ours
    )
    return (*filter(None, found), sys.executable)


def looks(files: tuple[str, ...]) -> list[tuple[int, int, int]]:
    """Return what changes when one of the files is installed again, or edited."""
    found = []
    for file in files:
        try:
            st = os.stat(file)
            found.append((st.st_ino, st.st_size, st.st_mtime_ns))
        except OSError:
            found.append((0, 0, 0))
    return found
