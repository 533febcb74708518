"""Ask the warm helper for a mount: a process that has imported everything and only forks.

Decided here and only here: which helper may serve a process, and what becomes of the mount
when the helper dies.  A helper serves those who have the user, rights, limits, namespaces,
root and control group of the process that started it.  They share its socket, whose name is
made of these.  Each side looks at the other before it says anything: a process with fewer
rights may reach the socket, or have put one of its own there.  The kernel shows neither the
rules of a system call filter nor those of Landlock.  So no process with a filter has a helper,
and a client proves that Landlock does not hold it back: it sends a file of /proc that only a
process which could take over the helper can open.

The daemon that the helper forks writes its pid as soon as it runs.  Without a pid there is no
daemon, and never will be: the pipe is closed.  So the caller mounts by itself.

Imports next to nothing, since its import is what is left of the time that a mount takes.

Source: namespaces(7); proc_pid_status(5); unix(7) "SCM_RIGHTS", "SO_PEERCRED", and SO_PEERPIDFD,
which is in Linux since 6.5; landlock(7) and ptrace(2) "Ptrace access mode checking".
"""

from __future__ import annotations

import os
import select
import stat
import sys
import zlib
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_SEQPACKET, SOL_SOCKET, socket  # without selectors

SWITCH = "PYUNION_WARM"
"""The environment variable that switches the helper off if it is 0."""

# Seconds until a helper that does not answer, as it is stopped, is given up.
_PATIENCE = 2.0

SO_PEERPIDFD = 77
PROOF = "environ"
"""The file of the helper in /proc that a client proves its rights by."""

_DIRECTORY = "pyunion-warm"
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
_FILES = ("attr/current", "cgroup", "limits", "loginuid", "oom_score_adj", "sessionid")
# The name, state and pids of a process differ, and how much memory it has.
_STATUS = (
    *(b"Uid", b"Gid", b"Groups", b"Umask", b"NoNewPrivs", b"Seccomp", b"Seccomp_filters"),
    *(b"CapInh", b"CapPrm", b"CapEff", b"CapBnd", b"CapAmb", b"SigBlk", b"SigIgn"),
    *(b"Cpus_allowed", b"Mems_allowed"),
)
# What proc_pid_stat(5) calls nice, rt_priority and policy, counted behind the name.
_SCHEDULING = (16, 37, 38)


class Here:
    """This process as the helper will see it: `description`, and the `path` of its socket."""

    def __init__(self, description: bytes, path: str) -> None:
        self.description = description
        self.path = path


def here() -> Here | None:
    """Return what a helper of this process is found by; None if it may have none."""
    if os.environ.get(SWITCH) == "0":
        return None
    try:
        directory = _runtime_directory()
        if directory is None:
            return None
        own = describe("/proc/self")
    except OSError:
        return None
    if b"\nSeccomp:\t0" not in own:
        return None  # two filters may differ, and only their number is known
    started = [f"{name}={value}" for name, value in os.environ.items() if _is_read_once(name)]
    code = (sys.executable, __file__, repr(sys.flags), sys.getfilesystemencoding(), *started)
    key = own + "\0".join(code).encode(errors="surrogateescape")
    return Here(own, f"{directory}/{zlib.crc32(key):08x}")


def _is_read_once(variable: str) -> bool:
    return variable == "TZ" or variable.startswith("PYTHON")


def describe(process: str) -> bytes:
    """Return what has to be the same for `process`, a directory of /proc, and its helper.

    Raises `OSError` if the process has ended, or has more rights than the caller.
    """
    parts = [os.readlink(f"{process}/ns/{name}").encode() for name in _NAMESPACES]
    parts += _root(process)
    fields = _content(f"{process}/stat").rpartition(b")")[2].split()
    parts += [fields[at] for at in _SCHEDULING]
    for name in _FILES:
        try:
            parts.append(_content(f"{process}/{name}"))
        except OSError as error:
            # A kernel without audit or security modules does not have all of them.
            parts.append(b"%d" % (error.errno or 0))
    for line in _content(f"{process}/status").splitlines():
        if line.partition(b":")[0] in _STATUS:
            parts.append(line)
    return b"\n".join(parts)


def _root(process: str) -> list[bytes]:
    """Return what identifies the root directory of `process`, and the mount that it is of."""
    root = os.open(f"{process}/root", os.O_PATH | os.O_CLOEXEC)
    try:
        st = os.fstat(root)
        lines = _content(f"/proc/self/fdinfo/{root}").splitlines()
    finally:
        os.close(root)
    return [b"%d %d" % (st.st_dev, st.st_ino), *(x for x in lines if x.startswith(b"mnt_id:"))]


def describe_peer(pidfd: int) -> tuple[str, bytes]:
    """Return the directory in /proc of the process of `pidfd`, and its description.

    Raises `OSError` as `describe` does.
    """
    info = _content(f"/proc/self/fdinfo/{pidfd}")
    pid = int(info.partition(b"Pid:")[2].split()[0])
    process = f"/proc/{pid}"
    seen = describe(process)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if pid <= 0 or poll.poll(0):
        raise ProcessLookupError  # another process may have its pid
    return process, seen


def open_proof(pidfd: int, description: bytes) -> int:
    """Return what proves to the helper of `pidfd` that we have its rights; the caller closes it.

    Raises `OSError` if it is not the helper of a process with this `description`.
    """
    process, seen = describe_peer(pidfd)
    if seen != description:
        raise PermissionError
    return os.open(f"{process}/{PROOF}", os.O_RDONLY | os.O_CLOEXEC)


def _content(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = b""
        while piece := os.read(fd, 65536):
            data += piece
        return data
    finally:
        os.close(fd)


def _runtime_directory() -> str | None:
    """Return the directory for sockets, which only this user can reach; None without one."""
    user = os.geteuid()
    for base in (os.environ.get("XDG_RUNTIME_DIR", ""), "/run" if user == 0 else ""):
        if not base.startswith("/") or not _is_ours(base, 0o022):
            continue
        path = f"{base}/{_DIRECTORY}"
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
        if _is_ours(path, 0o077):
            return path
    return None


def _is_ours(path: str, others: int) -> bool:
    """Tell whether `path` is a directory of this user without the rights in `others`."""
    try:
        st = os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(st.st_mode) and st.st_uid == os.geteuid() and not st.st_mode & others


class Asked:
    """A daemon that the helper forked for this process."""

    def __init__(self, pid: int, reading: int) -> None:
        self.pid = pid
        self._reading = reading

    def report(self) -> bytes:
        """Wait until the daemon is live or gives up; return its messages, see `daemon.report`.

        An interrupt ends the daemon, and is raised when that has ended.
        """
        try:
            return _all(self._reading)
        except KeyboardInterrupt:
            # It is in a session of its own, so the terminal does not signal it.
            try:
                os.kill(self.pid, 15)
            except ProcessLookupError:
                pass
            _all(self._reading)
            raise
        finally:
            os.close(self._reading)


def ask(at: Here, program: str, arguments: list[str]) -> Asked | None:
    """Ask the helper for the mount of a command line; None if this process has to mount."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            return None  # the daemon's descriptors would get these numbers
    words = [program, str(len(arguments)), *arguments]
    words += [f"{name}={value}" for name, value in os.environ.items()]
    message = "\0".join(words).encode(errors="surrogateescape")
    reading, writing = os.pipe()
    try:
        _send(at, message, writing)
    except OSError:
        os.close(reading)
        return None
    finally:
        os.close(writing)
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    pid = os.read(reading, 4) if poll.poll(_PATIENCE * 1000) else b""
    if len(pid) < 4:
        # A daemon that writes it later gets EPIPE, and ends.
        os.close(reading)
        return None
    return Asked(int.from_bytes(pid, "little"), reading)


def _send(at: Here, message: bytes, writing: int) -> None:
    connection = socket(AF_UNIX, SOCK_SEQPACKET)
    opened = []
    try:
        connection.settimeout(_PATIENCE)
        connection.connect(at.path)
        opened.append(connection.getsockopt(SOL_SOCKET, SO_PEERPIDFD))
        opened.append(open_proof(opened[0], at.description))
        opened.append(os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        _, proof, cwd = opened
        fds = b"".join(fd.to_bytes(4, sys.byteorder) for fd in (0, 1, 2, cwd, writing, proof))
        connection.sendmsg([message], [(SOL_SOCKET, SCM_RIGHTS, fds)])
    finally:
        connection.close()
        for fd in opened:
            os.close(fd)


def _all(fd: int) -> bytes:
    data = b""
    while piece := os.read(fd, 4096):
        data += piece
    return data
