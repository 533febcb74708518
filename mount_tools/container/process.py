"""The command of a container: from a new fork in its namespaces to execve(2).

Decided here and only here: its environment, ids, capabilities and working directory, and
the exit status if it cannot start: 127 for a command that does not exist, 126 for one that
cannot be invoked, 125 for all else.

Everything is imported before the root changes: after that Python's own files cannot be
opened, and their paths lead to files of the image.

Source: docker-run(1) "Exit Status"; moby `oci/caps/defaults.go`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress

from layerstore.errors import StoreError, shown
from layerstore.oci.run_config import RunConfig
from mount_tools.container.default_profile import default_filter
from mount_tools.container.handshake import (
    CANNOT_INVOKE,
    NOT_FOUND,
    REFUSED,
    CannotStart,
    Channel,
    Running,
    Silence,
    end_with,
    has_executed,
    report_failure,
)
from mount_tools.container.host_config import host_config
from mount_tools.container.program import run_program
from mount_tools.container.rights import HIGHEST, KILL, UNCONFINED, USUAL, Rights, names_of
from mount_tools.container.signals import begin_afresh
from mount_tools.container.sub_ids import missing_user
from mount_tools.container.user import Identity, identity
from mount_tools.daemon.after_fork import close_all_but, forget_descriptors
from unionfs.errors import error_text
from unionfs.light_typing import TYPE_CHECKING, NamedTuple
from unionfs.syscalls.keyring import join_new_session
from unionfs.syscalls.namespaces import (
    drop_capability,
    hide_from_others,
    keep_only,
    no_new_privileges,
)

if TYPE_CHECKING:
    from typing import NoReturn

_NULL = os.makedev(1, 3)

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Launch(NamedTuple):
    """A command: `environment` has words NAME=VALUE, `user` is that of `user.identity`.

    With `terminal` its stdin, stdout and stderr are a new terminal.  `filter_calls` loads its
    filter of system calls.  With `make_directory` the working directory is made if missing.
    """

    words: tuple[str, ...]
    environment: tuple[str, ...]
    directory: str
    user: str
    terminal: bool = False
    rights: Rights = USUAL
    filter_calls: Callable[[], None] | None = None
    make_directory: bool = True


def launch_of(config: RunConfig, store: str) -> Launch:
    """Return the command that a container of `config`, in the store there, runs.

    Raises StoreError.
    """
    rights = host_config(config).rights
    return Launch(
        tuple(config.argv),
        tuple(config.env),
        config.working_dir or "/",
        config.user,
        config.tty,
        rights,
        filter_of_calls(rights, store),
    )


def filter_of_calls(rights: Rights, store: str) -> Callable[[], None] | None:
    """Return what loads the filter of system calls of `rights`, None if they have none.

    `store` is the directory of the store.  Raises StoreError.
    """
    if not rights.seccomp:
        return default_filter(store, rights.capabilities)
    if rights.seccomp == UNCONFINED:
        return None
    from mount_tools.container.seccomp_profile import filter_of  # few containers name one

    return filter_of(rights.seccomp, names_of(rights.capabilities)).load


def restrict(rights: Rights = USUAL) -> None:
    """Drop, from every program run from now on, the capabilities that are not in `rights`.

    The keys of the user's session, as of Kerberos, are no container's either.
    """
    hide_from_others()
    join_new_session()
    for number in range(HIGHEST + 1):
        if number not in rights.capabilities and not drop_capability(number):
            break


def become(launch: Launch, parent: int | None = None) -> NoReturn:
    """Run the command `launch` in place of this process, whose root is the container's.

    It is killed when `parent`, a pidfd of our parent, ends.  Raises CannotStart.
    """
    environment = prepare(launch)
    if parent is not None:
        end_with(parent)  # not earlier: a change of ids makes the kernel forget it
    execute(launch, environment)


def prepare(launch: Launch) -> dict[str, str]:
    """Become the user of `launch`, limited as that says; return the command's environment.

    The root is the container's.  Root keeps its capabilities until it runs a program.  Raises
    CannotStart.
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
        if launch.make_directory:
            _make_directory(directory)
        _leave_null_of_the_machine()
        _give_streams_to(who.uid)
        os.umask(0o022)
        for limit in launch.rights.ulimits:
            limit.set()
        _filter_calls(launch)  # not later: the kernel allows that to CAP_SYS_ADMIN only
        _become(who)
    except StoreError as error:
        raise CannotStart(REFUSED, str(error)) from None
    except OSError as error:
        raise _unusable(directory, error) from None
    return environment


def execute(launch: Launch, environment: dict[str, str]) -> NoReturn:
    """Run the command in place of this process, which `prepare` has prepared.

    Raises CannotStart.
    """
    directory = launch.directory or "/"
    try:
        os.chdir(directory)
    except OSError as error:
        raise _unusable(directory, error) from None
    if launch.rights.no_new_privileges:
        no_new_privileges()
    begin_afresh()
    if not launch.words:
        raise CannotStart(REFUSED, "No command specified")
    _execute(launch.words, environment)


def _make_directory(path: str) -> None:
    """Make the directory and those above it; unlike os.makedirs with as many as a path can have."""
    if os.path.isdir(path):
        return
    made = ""
    for name in filter(None, path.split("/")):
        made = f"{made}/{name}"
        with suppress(FileExistsError):
            os.mkdir(made)


def _unusable(directory: str, error: OSError) -> CannotStart:
    text = f"the working directory {shown(directory)} cannot be used: {error.strerror}"
    return CannotStart(REFUSED, text)


def _leave_null_of_the_machine() -> None:
    """Take the container's /dev/null for each standard stream that is the machine's.

    Root of a container could change the mode and the owner of the machine's, by its descriptor.
    In place of one that the container has covered or removed there is the end of a pipe.
    """
    for fd in range(3):
        if not _is_null(fd):
            continue
        try:
            # Whatever the container has put there, this waits for nothing.
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            other = os.open("/dev/null", flags)
        except OSError:
            other = -1
        if other < 0 or not _is_null(other):
            ends = os.pipe()
            os.dup2(ends[0 if fd == 0 else 1], fd)
            os.close(ends[0])
            os.close(ends[1])
        else:
            os.dup2(other, fd)
        if other >= 0:
            os.close(other)


def _is_null(fd: int) -> bool:
    found = os.fstat(fd)
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == _NULL


def _give_streams_to(uid: int) -> None:
    """Let the user `uid` open /dev/stdin, /dev/stdout and /dev/stderr: our pipes, or a terminal.

    The group of a terminal stays that of all terminals.
    """
    for fd in range(3):
        found = os.fstat(fd)
        ours = stat.S_ISFIFO(found.st_mode) or os.isatty(fd)
        if ours and found.st_uid != uid:
            with suppress(OSError):  # a user namespace of one user has no others
                os.fchown(fd, uid, -1)


def _filter_calls(launch: Launch) -> None:
    if launch.filter_calls is None:
        return
    try:
        launch.filter_calls()
    except OSError as error:
        raise CannotStart(
            REFUSED, f"the seccomp profile cannot be used: {error.strerror}"
        ) from None


def _become(who: Identity) -> None:
    try:
        with suppress(PermissionError):  # a user namespace of one user has no other groups
            os.setgroups(who.groups)
        os.setresgid(who.gid, who.gid, who.gid)
        os.setresuid(who.uid, who.uid, who.uid)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise CannotStart(REFUSED, missing_user(who.uid, who.gid)) from None


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
            run_program(path, words, environment)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR) or "/" in command:
                found = error
    status = NOT_FOUND if found.errno in (errno.ENOENT, errno.ENOTDIR) else CANNOT_INVOKE
    raise CannotStart(status, f'exec: "{shown(command)}": {found.strerror}')


def run_command(launch: Launch, terminal: int | None, to: Channel, proc: int) -> int:
    """Run the command in a child, on that terminal if there is one; return the child's pid.

    Returns once the child has executed it, when Running was sent, or has ended.  `proc` is an
    open /proc in which this process's children have the pids that fork(2) returns.

    Before the command begins this process gives up all rights that the command does not have:
    with CAP_SYS_PTRACE it could use them.
    """
    held, hold = os.pipe()  # close-on-exec, as every descriptor of Python's
    limited, limiting = os.pipe()

    def work() -> NoReturn:
        os.close(limiting)
        os.read(limited, 1)
        become_on(terminal, launch, None, to, hold)

    child = os.fork()
    if child == 0:
        in_child(work, to)
    os.close(hold)
    os.close(limited)
    keep_only((*launch.rights.capabilities, KILL))  # it passes signals on to any user
    os.close(limiting)
    os.read(held, 1)
    os.close(held)
    if has_executed(proc, child):
        to.send(Running())
    to.close()
    return child


def become_on(
    terminal: int | None, launch: Launch, parent: int | None, to: Channel, *keep: int
) -> NoReturn:
    """Run the command `launch` in place of this process, on that terminal if there is one.

    Its channel `to` and the descriptors `keep` stay open until execve(2).  See `become`.
    """
    # An inherited directory of the host would lead out of the container by /proc/self/fd/N.
    kept = (fd for fd in (terminal, parent) if fd is not None)
    close_all_but(to.fileno(), *keep, *kept)
    if terminal is not None:
        os.login_tty(terminal)
    become(launch, parent)


def in_child(work: Callable[[], NoReturn], to: Channel) -> NoReturn:
    """Do `work` in a new fork; send the error that stops it to `to`, as Failed."""
    status, text = REFUSED, "a process of the container ended without a reason"
    forget_descriptors()
    try:
        work()
    except Silence:
        os._exit(REFUSED)  # the process that would hear of it is gone
    except CannotStart as error:
        status, text = error.status, str(error)
    except StoreError as error:
        text = str(error)
    except OSError as error:
        text = error_text(error)
    except BaseException as error:
        text = f"a bug in PyUnion ({type(error).__name__}: {error})"
    finally:
        try:
            report_failure(to, status, text)
        finally:
            os._exit(status)
