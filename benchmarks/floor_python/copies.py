"""`benchmarks/copy_floor.c` in Python: the same system calls for each copied file.

python -m benchmarks.floor_python.copies LOWER UPPER WORK SYNCED
"""

from __future__ import annotations

import gc
import os
import struct
import sys
import time

from unionfs.syscalls.aio import Syncs
from unionfs.syscalls.handles import handle_at

OWNER = 12345
MOST = 64
ORIGIN = "trusted.overlay.origin"
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NOATIME | os.O_CLOEXEC
NEW = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
# version, magic, length, flags, type and the uuid, before the handle
_ORIGIN = struct.Struct("=BBBBB16x")
_LARGEST = 1 << 20  # bytes that are copied at once
_SET_IDS = 0o6000


def stage(lower: int, name: bytes, work: int, staged: bytes, owner: int | None = None) -> int:
    """Make `staged` in `work`, the copy of a file in `lower`, and return an fd of it.

    It gets the new `owner`, if that is given.
    """
    source = os.open(name, READ, dir_fd=lower)
    st = os.fstat(source)
    copy = os.open(staged, NEW, st.st_mode & 0o7777, dir_fd=work)
    at, size = 0, st.st_size
    while at < size and (data := os.pread(source, min(size, _LARGEST), at)):
        at += os.pwrite(copy, data, at)
    os.close(source)
    os.setxattr(copy, ORIGIN, origin_of(lower, name))
    owners = (st.st_uid, st.st_gid) if owner is None else (owner, -1)
    if owners != (0, 0):
        os.fchown(copy, *owners)
        if st.st_mode & _SET_IDS:  # which that takes away
            os.fchmod(copy, st.st_mode & 0o7777)
    os.utime(copy, ns=(st.st_atime_ns, st.st_mtime_ns))
    return copy


def origin_of(lower: int, name: bytes) -> bytes:
    """Return the origin mark of a copy of `name`."""
    kind, handle = handle_at(lower, name)
    return _ORIGIN.pack(0, 0xFB, _ORIGIN.size + len(handle), 0, kind) + handle


def publish(work: int, staged: bytes, upper: int, name: bytes) -> None:
    """Give a copy its name in the directory `upper`, which keeps its times."""
    before = os.fstat(upper)
    os.rename(staged, name, src_dir_fd=work, dst_dir_fd=upper)
    os.utime(upper, ns=(before.st_atime_ns, before.st_mtime_ns))


def copy_all(lower: int, upper: int, work: int, synced: int, syncs: Syncs) -> None:
    """Copy the files of the directory `lower` up; the arguments are those of the program in C."""
    names = [os.fsencode(entry.name) for entry in os.scandir(lower) if entry.is_file()]
    together = max(synced, 1)
    for done in range(0, len(names), together):
        copies = []
        for number, name in enumerate(names[done : done + together]):
            staged = b"#%x" % number
            copy = stage(lower, name, work, staged, OWNER)
            copies.append((copy, number, staged, name))
        if synced == 1:
            os.fsync(copies[0][0])
        elif synced:
            _write_back(syncs, [(copy, number) for copy, number, _, _ in copies])
        for copy, _, staged, name in copies:
            publish(work, staged, upper, name)
            os.close(copy)


def _write_back(syncs: Syncs, copies: list[tuple[int, int]]) -> None:
    if syncs.begin(copies) != len(copies):
        sys.exit("the copies cannot be synced together")
    left = len(copies)
    while left:
        ended = syncs.ended(left)
        left -= len(ended)
        if any(code for _, code in ended):
            sys.exit("a copy cannot be synced")


def main() -> None:
    *paths, synced = sys.argv[1:]
    lower, upper, work = (os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in paths)
    os.umask(0)
    gc.disable()
    began, used = time.monotonic_ns(), time.process_time_ns()
    copy_all(lower, upper, work, int(synced), Syncs(MOST))
    print(time.monotonic_ns() - began, time.process_time_ns() - used)


if __name__ == "__main__":
    main()
