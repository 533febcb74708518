"""Run a program of the image: open it once, check it, and run exactly that file.

Decided here and only here: that our own interpreter is never run.  It is a file of the host,
and a process that runs it could be used to write to it, by /proc/self/exe (CVE-2019-5736).
To check a path and then execute the path is not enough, since processes of the image may
replace the file in between.  So:

- the file is found through links that the image has, and never through a link of /proc that
  leads to another file by itself (/proc/self/exe, /proc/self/fd/N);
- it is opened once (O_PATH: a FIFO does not block, a device does nothing) and compared;
- the kernel runs it by its directory, open, and its last name without following a link, so
  whatever has that name by then is a file of the image too;
- the kernel runs no script, since the directory is close-on-exec.  The interpreter that a
  `#!` line names is found here, in the same way.

Source: execve(2) "Interpreter scripts", Linux fs/binfmt_script.c:load_script(); openat2(2)
RESOLVE_NO_MAGICLINKS.
"""

from __future__ import annotations

import errno
import functools
import os
import re
import stat

from unionfs.errors import fs_error
from unionfs.light_typing import TYPE_CHECKING, NamedTuple
from unionfs.syscalls.execveat import execveat
from unionfs.syscalls.openat2 import open_in_root

if TYPE_CHECKING:
    from typing import NoReturn

_LINKS_FOLLOWED = 40
_SCRIPTS_OF_SCRIPTS = 5
_LONGEST_HEAD = 256  # bytes of a script that the kernel reads
_INTERPRETER = rb"[ \t]*([^ \t\0]+)[ \t]*([^\0]*?)[ \t]*(?:\0|$)"


class _Program(NamedTuple):
    """A file: its directory, open, its name there, and the file, open with O_PATH."""

    directory: int
    name: bytes
    fd: int


@functools.cache
def own_interpreter() -> os.stat_result:
    """Return the stat of the program that this process runs.

    Called before the root changes: a container's /proc may be hidden by a volume.
    """
    return os.stat("/proc/self/exe")


def run_program(path: str, words: tuple[str, ...], environment: dict[str, str]) -> NoReturn:
    """Run the program `path` of our root with the arguments `words`, in place of this process.

    Raises the OSError of execve(2).
    """
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for _ in range(_SCRIPTS_OF_SCRIPTS + 1):
            program = _find(root, path)
            try:
                interpreter = _interpreter(program, path)
                if interpreter is None:
                    execveat(program.directory, program.name, words, environment)
            finally:
                os.close(program.fd)
                os.close(program.directory)
            words = (*interpreter, path, *words[1:])
            path = interpreter[0]
        raise fs_error(errno.ELOOP)
    finally:
        os.close(root)


def _find(root: int, path: str) -> _Program:
    """Find the program, links followed; the caller closes its descriptors."""
    own = own_interpreter()
    if not path.startswith("/"):
        path = os.path.join(os.getcwd(), path)
    try:
        os.close(open_in_root(root, os.fsencode(path), os.O_PATH))
    except OSError as error:
        if error.errno == errno.ELOOP and _is_own(path):
            raise _ours(path) from None
        raise
    here = os.fsencode(path)
    for _ in range(_LINKS_FOLLOWED):
        above, name = os.path.split(here.rstrip(b"/"))
        if name in (b"", b".", b".."):
            raise fs_error(errno.EACCES, path)  # a directory
        directory = open_in_root(root, above, os.O_PATH | os.O_DIRECTORY)
        try:
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        except BaseException:
            os.close(directory)
            raise
        found = os.fstat(fd)
        if not stat.S_ISLNK(found.st_mode):
            if os.path.samestat(found, own):
                os.close(fd)
                os.close(directory)
                raise _ours(path)
            return _Program(directory, name, fd)
        target = os.readlink(b"", dir_fd=fd)
        os.close(fd)
        os.close(directory)
        here = os.path.join(above, target)  # an absolute target replaces all
    raise fs_error(errno.ELOOP, path)


def _is_own(path: str) -> bool:
    """Tell whether `path`, links of /proc followed too, is our interpreter."""
    try:
        return os.path.samestat(os.stat(path), own_interpreter())
    except OSError:
        return False


def _ours(path: str) -> OSError:
    return OSError(errno.EACCES, "it is PyUnion's own interpreter", path)


def _interpreter(program: _Program, path: str) -> tuple[str, ...] | None:
    """Return what a script's first line runs, a path and perhaps an argument; None for others.

    Raises EACCES for a script that may not be executed.
    """
    found = os.fstat(program.fd)
    if not stat.S_ISREG(found.st_mode):
        return None  # execveat says why not
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(program.name, flags, dir_fd=program.directory)
    except PermissionError:
        return None  # a program may be executable only; a script must be readable
    try:
        if not os.path.samestat(os.fstat(fd), found):
            raise OSError(errno.ETXTBSY, "it is being replaced", path)
        head = os.read(fd, _LONGEST_HEAD)
    finally:
        os.close(fd)
    if not head.startswith(b"#!"):
        return None
    if not os.access(program.name, os.X_OK, dir_fd=program.directory):
        raise fs_error(errno.EACCES, path)
    line, newline, _ = head[2:].partition(b"\n")
    if not newline:
        line = line[: _LONGEST_HEAD - 3]  # the kernel keeps the last byte for a NUL
    found_line = re.match(_INTERPRETER, line)
    if found_line is None or (not newline and found_line.end(1) == _LONGEST_HEAD - 3):
        raise fs_error(errno.ENOEXEC, path)
    return tuple(os.fsdecode(word) for word in found_line.groups() if word)
