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
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NOATIME | os.O_CLOEXEC
_NEW = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
# version, magic, length, flags, type and the uuid, before the handle
_ORIGIN = struct.Struct("=BBBBB16x")


def copy_all(lower: int, upper: int, work: int, synced: int, syncs: Syncs) -> None:
    """Copy the files of the directory `lower` up; the arguments are those of the program in C."""
    names = [os.fsencode(entry.name) for entry in os.scandir(lower) if entry.is_file()]
    together = max(synced, 1)
    for done in range(0, len(names), together):
        copies = []
        for number, name in enumerate(names[done : done + together]):
            source = os.open(name, _READ, dir_fd=lower)
            st = os.fstat(source)
            staged = b"#%x" % number
            copy = os.open(staged, _NEW, st.st_mode & 0o7777, dir_fd=work)
            if os.pwrite(copy, os.pread(source, st.st_size, 0), 0) != st.st_size:
                sys.exit("a copy is not whole")
            os.close(source)
            kind, handle = handle_at(lower, name)
            origin = _ORIGIN.pack(0, 0xFB, _ORIGIN.size + len(handle), 0, kind) + handle
            os.setxattr(copy, "trusted.overlay.origin", origin)
            os.fchown(copy, OWNER, -1)
            os.utime(copy, ns=(st.st_atime_ns, st.st_mtime_ns))
            copies.append((copy, number, staged, name))
        if synced == 1:
            os.fsync(copies[0][0])
        elif synced:
            _write_back(syncs, [(copy, number) for copy, number, _, _ in copies])
        for copy, _, staged, name in copies:
            before = os.fstat(upper)
            os.rename(staged, name, src_dir_fd=work, dst_dir_fd=upper)
            os.utime(upper, ns=(before.st_atime_ns, before.st_mtime_ns))
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
