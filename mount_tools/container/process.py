"""The process a container runs: from a fresh fork inside its namespaces to execve(2).

Decided here and only here: its environment, ids, capabilities and working
directory, and how it is told when it cannot start: 127 for a command that is
not there, 126 for one that cannot be invoked, 125 for all else.

Everything is imported before the root changes: from then on Python's own files
are out of reach, and what is found by their names is the image's.

Source: docker-run(1) "Exit Status"; moby `oci/caps/defaults.go`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, NoReturn

from layerstore.errors import StoreError
from mount_tools.container.signals import begin_afresh
from mount_tools.container.user import Identity, identity
from mount_tools.daemon.after_fork import forget_descriptors
from unionfs.syscalls.namespaces import drop_capability, hide_from_others

REFUSED = 125
CANNOT_INVOKE = 126
NOT_FOUND = 127

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw
# sys_chroot audit_write setfcap, by their numbers in linux/capability.h.  Not mknod, which
# docker gives: there a cgroup forbids to open the devices made, and here nothing would.
_CAPABILITIES = frozenset((0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 29, 31))
_HIGHEST_CAPABILITY = 63

# Of what execve(2) follows: "#!" lines, and how much of them is read.
_SCRIPTS_OF_SCRIPTS = 6
_LONGEST_HEAD = 256


class Launch(NamedTuple):
    """What to run, and as what: `environment` is of words NAME=VALUE.

    `terminal` says that it has one of its own, which its stdin is when it begins.
    """

    words: tuple[str, ...]
    environment: tuple[str, ...]
    directory: str
    user: str
    terminal: bool = False


class CannotStart(Exception):
    """The command cannot be run: the exit status and what to say."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def restrict() -> None:
    """Take from whatever is run from now on the capabilities that containers do not have."""
    hide_from_others()
    for number in range(_HIGHEST_CAPABILITY + 1):
        if number not in _CAPABILITIES and not drop_capability(number):
            break


def become(launch: Launch) -> NoReturn:
    """Run what `launch` says in the place of this process, whose root is the container's.

    Raises CannotStart.
    """
    if any("\0" in word for word in (*launch.words, *launch.environment, launch.directory)):
        text = "the command, its environment or its working directory has a NUL byte in it"
        raise CannotStart(REFUSED, text)
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        who = identity(root, launch.user)
    except StoreError as error:
        raise CannotStart(REFUSED, str(error)) from None
    environment = _environment(launch, who.home)
    directory = launch.directory or "/"
    try:
        os.makedirs(directory, exist_ok=True)
        if launch.terminal:
            os.fchown(0, who.uid, -1)  # its group is that of all terminals
        os.umask(0o022)
        _become(who)
        os.chdir(directory)
    except OSError as error:
        text = f"the working directory {directory} cannot be used: {error.strerror}"
        raise CannotStart(REFUSED, text) from None
    begin_afresh()
    if not launch.words:
        raise CannotStart(REFUSED, "No command specified")
    _execute(launch.words, environment)


def _become(who: Identity) -> None:
    try:
        with suppress(PermissionError):  # in a user namespace of one user, who has no others
            os.setgroups(who.groups)
        os.setresgid(who.gid, who.gid, who.gid)
        os.setresuid(who.uid, who.uid, who.uid)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        text = f"there is no user {who.uid}:{who.gid} in a container that an ordinary user runs"
        raise CannotStart(REFUSED, text) from None


def _environment(launch: Launch, home: str) -> dict[str, str]:
    environment = {"PATH": PATH}
    if launch.terminal:
        environment["TERM"] = "xterm"
    for word in launch.environment:
        name, _, value = word.partition("=")
        if name:
            environment[name] = value
    environment.setdefault("HOME", home)
    return environment


def _execute(words: tuple[str, ...], environment: dict[str, str]) -> NoReturn:
    command = words[0]
    found = OSError(errno.ENOENT, "executable file not found in $PATH")
    folders = [""] if "/" in command else environment["PATH"].split(":")
    for folder in folders:
        path = os.path.join(folder, command) if folder else command
        try:
            _refuse_ourselves(path)
            os.execve(path, words, environment)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR) or "/" in command:
                found = error
    status = NOT_FOUND if found.errno in (errno.ENOENT, errno.ENOTDIR) else CANNOT_INVOKE
    raise CannotStart(status, f'exec: "{command}": {found.strerror}')


def _refuse_ourselves(path: str) -> None:
    """Refuse what would run our own interpreter, by /proc/self/exe: it lies on the host.

    Through the process that runs it, a hostile image could write to it (CVE-2019-5736).
    """
    own = os.stat("/proc/self/exe")
    for _ in range(_SCRIPTS_OF_SCRIPTS):
        found = os.stat(path)
        if os.path.samestat(found, own):
            raise OSError(errno.EACCES, "it is PyUnion's own interpreter", path)
        if not stat.S_ISREG(found.st_mode):
            return
        try:
            with open(path, "rb", buffering=0) as file:
                head = file.read(_LONGEST_HEAD).split(b"\n", 1)[0]
        except PermissionError:
            return  # to be run and not read, by one who could not write to ours either
        if not head.startswith(b"#!") or not head[2:].split():
            return
        path = os.fsdecode(head[2:].split()[0])


def in_child(work: Callable[[], NoReturn], report: int) -> NoReturn:
    """Do `work` in a fresh fork; what stops it goes to the fd `report` as `STATUS text`."""
    status, text = REFUSED, "it ended without a reason"
    forget_descriptors()
    try:
        work()
    except CannotStart as error:
        status, text = error.status, str(error)
    except StoreError as error:
        text = str(error)
    except OSError as error:
        where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        text = f"{where}{error.strerror or error}"
    except BaseException as error:
        text = f"a bug in PyUnion ({type(error).__name__}: {error})"
    finally:
        try:
            os.write(report, f"{status} {text}".encode(errors="surrogateescape"))
        finally:
            os._exit(status)
