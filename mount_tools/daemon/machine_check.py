"""What of PyUnion works on this machine, found out by mounting a scratch union.

Decided here and only here: what is looked at, and the sentence for each no.  The mounts are
made by the command that container engines call, in processes of their own.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mount_tools.daemon.detach import ENDING
from mount_tools.daemon.transport import why_no_io_uring
from unionfs.errors import error_text
from unionfs.light_typing import NamedTuple
from unionfs.syscalls.mount import MNT_DETACH, umount

_PATIENCE = 60  # seconds for one command
_SIZE = 1 << 20  # bytes of the file that is read
_IDS = "0:1000:1000"


class Finding(NamedTuple):
    """One thing that was looked at: whether it works, and how or why not."""

    name: str
    works: bool
    says: str


class _No(Exception):
    """It does not work; the text is the reason."""


def check_machine(directory: Path) -> list[Finding]:
    """Return what works with layers in `directory`; makes and removes a scratch directory in it.

    Raises `OSError` if nothing can be made there.
    """
    scratch = tempfile.TemporaryDirectory(prefix="pyunion-check-", dir=directory)
    try:
        return [_finding(name, look, Path(scratch.name)) for name, look in LOOKS.items()]
    finally:
        with _uninterrupted():
            scratch.cleanup()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let the signals that end the command wait while something is removed."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _finding(name: str, look: Callable[[Path], str], base: Path) -> Finding:
    try:
        return Finding(name, True, look(base))
    except _No as no:
        return Finding(name, False, str(no))
    except OSError as error:
        return Finding(name, False, error_text(error))
    except subprocess.TimeoutExpired:
        return Finding(name, False, f"a command did not end within {_PATIENCE} seconds")


@contextmanager
def _mounted(base: Path, name: str, options: str = "") -> Iterator[tuple[Path, Path]]:
    """Mount a fresh union of a file and a directory; yield its root and its upper."""
    lower, upper, work, root = (base / name / part for part in ("lower", "upper", "work", "root"))
    for path in (lower, upper, work, root):
        path.mkdir(parents=True)
    (lower / "file").write_bytes(bytes(_SIZE))
    words = f"lowerdir={lower},upperdir={upper},workdir={work}{options}"
    with subprocess.Popen(
        [sys.executable, "-m", "mount_tools.helper.main", "-o", words, root],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for this process alone
    ) as command:
        try:
            _, said = command.communicate(timeout=_PATIENCE)
            if command.returncode != 0:
                raise _No(said.strip().partition(": ")[2] or f"it ended with {command.returncode}")
            yield root, upper
        finally:
            if _waited_for(command) == 0:
                with _uninterrupted():
                    _unmount(root)


def _waited_for(command: subprocess.Popen[str]) -> int:
    """Return the exit status of a mount; one that was killed might be made all the same."""
    try:
        return command.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        command.kill()
        return command.wait()


def _unmount(root: Path) -> None:
    if os.geteuid() == 0:
        umount(os.fsencode(root), MNT_DETACH)
    else:
        subprocess.run(["fusermount3", "-u", "-z", root], timeout=_PATIENCE, check=True)


def _mount(base: Path) -> str:
    began = time.monotonic()
    with _mounted(base, "mount") as (root, _):
        took = time.monotonic() - began
        (root / "new").write_text("new")
        (root / "file").write_text("changed")
        if (root / "file").read_text() != "changed":
            raise _No("what was written is not what is read")
    return f"a writable mount was live after {took * 1000:.0f} ms"


def _passthrough(base: Path) -> str:
    with _mounted(base, "passthrough", ",passthrough=all") as (root, _):
        (root / "file").read_bytes()
        counters = json.loads(os.getxattr(root, "user.pyunion.counters"))
    if "READ" in counters:
        raise _No("the kernel asks for data; it needs Linux 6.9 and root of the whole machine")
    return "the kernel reads the layers' files by itself"


def _io_uring(base: Path) -> str:
    if reason := why_no_io_uring():
        raise _No(f"requests are read from /dev/fuse: {reason}")
    with _mounted(base, "io_uring", ",io_uring=on") as (root, _):
        os.listdir(root)
    return "requests come through io_uring"


def _xattrs(base: Path) -> str:
    with _mounted(base, "xattrs") as (root, upper):
        os.setxattr(root / "file", "user.pyunion-check", b"1")
        os.rename(root / "file", root / "renamed")
        (root / "made").mkdir()
        names = os.listxattr(upper / "renamed")
    if "user.pyunion-check" not in names:
        raise _No("an attribute of a file is not in the upper")
    kept = "trusted" if any(name.startswith("trusted.overlay.") for name in names) else "user"
    return f"stored; the union's own are {kept}.overlay.*"


def _whiteouts(base: Path) -> str:
    with _mounted(base, "whiteouts") as (root, upper):
        (root / "file").unlink()
        if (root / "file").exists():
            raise _No("a deleted file is still there")
        return whiteout_text(upper, "file")


def whiteout_text(upper: Path, name: str) -> str:
    """Return the sentence for the form of the whiteout of `name` in the directory `upper`."""
    try:
        mode = (upper / name).lstat().st_mode
    except FileNotFoundError:
        return "deletions are files .wh.NAME, since neither devices nor attributes can be made here"
    if stat.S_ISCHR(mode):
        return "deletions are devices 0:0, as kernel overlayfs writes them"
    return "deletions are attributes, since no device 0:0 can be made here"


def _ids(base: Path) -> str:
    if os.geteuid() != 0:
        raise _No("only root can give files to other ids; podman unshare does that for a user")
    with _mounted(base, "ids", f",uidmapping={_IDS},gidmapping={_IDS}") as (root, upper):
        (root / "new").write_text("made by an id that the map does not have")
        os.chown(root / "new", 1007, 1007)
        st = (upper / "new").stat()
    if (st.st_uid, st.st_gid) != (7, 7):
        raise _No(f"id 1007 was stored as {st.st_uid}, not as 7")
    return "uidmapping= and gidmapping= are stored as the container sees them"


def _force_mask(base: Path) -> str:
    with _mounted(base, "force_mask", ",xattr_permissions=2") as (root, upper):
        (root / "new").write_text("")
        (root / "new").chmod(0o4711)
        mode = stat.S_IMODE((root / "new").stat().st_mode)
        real = stat.S_IMODE((upper / "new").stat().st_mode)
    if mode != 0o4711 or real == mode:
        raise _No(f"a file of mode 4711 has {mode:o}, and {real:o} on disk")
    return "xattr_permissions=2 keeps owners and modes in attributes of the files"


def _rootless(_base: Path) -> str:
    if not os.access("/dev/fuse", os.R_OK | os.W_OK) or os.stat("/dev/fuse").st_mode & 0o6 != 0o6:
        raise _No("/dev/fuse is not for every user: chmod 0666 /dev/fuse")
    limit = Path("/proc/sys/user/max_user_namespaces")
    if not limit.exists() or int(limit.read_text()) == 0:
        raise _No("user namespaces are off: sysctl user.max_user_namespaces=15000")
    for program, package in (("fusermount3", "fuse3"), ("newuidmap", "uidmap")):
        if shutil.which(program) is None:
            raise _No(f"{program} is not installed (package {package})")
    return "an ordinary user can mount"


LOOKS: dict[str, Callable[[Path], str]] = {
    "mount": _mount,
    "passthrough": _passthrough,
    "io_uring": _io_uring,
    "xattrs": _xattrs,
    "whiteouts": _whiteouts,
    "ids": _ids,
    "force_mask": _force_mask,
    "rootless": _rootless,
}
