"""`python -m benchmarks.floor_python`: mounts, agrees with the kernel and serves.

With `--upper` and `--work` it is the least union, without them the floor.
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
from contextlib import suppress
from functools import partial

from benchmarks.floor_python import __doc__ as about
from benchmarks.floor_python import answers, union_answers
from benchmarks.floor_python.answers import Handlers
from benchmarks.floor_python.reader import serve
from benchmarks.floor_python.rings import Queue
from benchmarks.floor_python.tree import Tree
from benchmarks.floor_python.union import Union
from unionfs.syscalls.mount import MS_POSIXACL, mount
from unionfs.syscalls.mountinfo import device_on
from unionfs.transports.uring import possible_cpus
from unionfs.wire import abi
from unionfs.wire.abi import Init
from unionfs.wire.session import BUFFER_SIZE, MAX_PAGES, MAX_WRITE

_READ_AHEAD_KB = 512
_FLAGS = (
    Init.ASYNC_READ
    | Init.ATOMIC_O_TRUNC
    | Init.BIG_WRITES
    | Init.DONT_MASK
    | Init.DO_READDIRPLUS
    | Init.PARALLEL_DIROPS
    | Init.ABORT_ERROR
    | Init.MAX_PAGES
    | Init.HANDLE_KILLPRIV_V2
    | Init.SETXATTR_EXT
    | Init.INIT_EXT
    | Init.NO_OPENDIR_SUPPORT
    | Init.POSIX_ACL
    | Init.CACHE_SYMLINKS
    | Init.NO_EXPORT_SUPPORT
    | Init.ALLOW_IDMAP
    | Init.PASSTHROUGH
)


def _mount(point: str) -> int:
    """Mount on `point`; return /dev/fuse."""
    device = os.open("/dev/fuse", os.O_RDWR)
    options = "rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other"
    data = f"fd={device},{options}".encode()
    mount(b"floor", os.fsencode(point), b"fuse.floor", MS_POSIXACL, data)
    return device


def _agree(device: int, *, rings: bool) -> None:
    """Answer INIT."""
    request = os.read(device, BUFFER_SIZE)
    unique = abi.IN_HEADER.unpack_from(request)[2]
    _, _, max_readahead, _ = abi.INIT_IN.unpack_from(request, abi.IN_HEADER.size)
    flags = _FLAGS | (Init.OVER_IO_URING if rings else 0)
    low, high = flags & 0xFFFFFFFF, flags >> 32
    size = abi.OUT_HEADER.size + abi.INIT_OUT.size
    body = abi.INIT_OUT.pack(
        *(abi.MAJOR, abi.MINOR, max_readahead, low),
        *(64, 48, MAX_WRITE, 1, MAX_PAGES, 0, high, 1, 0),
    )
    os.write(device, abi.OUT_HEADER.pack(size, 0, unique) + body)


def _read_ahead(point: str) -> None:
    path = f"/sys/class/bdi/{device_on(os.fsencode(point))}/read_ahead_kb"
    with suppress(OSError), open(path, "w") as file:
        file.write(str(_READ_AHEAD_KB))


def _detach() -> None:
    """Let the command end, and be the daemon."""
    if os.fork():
        os._exit(0)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(nowhere, fd)


def main() -> None:
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    parser.add_argument("-f", dest="foreground", action="store_true")
    parser.add_argument("-u", dest="rings", action="store_true", help="over io_uring")
    parser.add_argument("--upper", help="the directory to write to")
    parser.add_argument("--work", help="where to stage what gets there")
    parser.add_argument("layers", nargs="+")
    parser.add_argument("point")
    given = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each file of a layer is open
    os.umask(0)  # the modes in requests are whole
    gc.disable()
    tree: Tree | Union
    handlers: Handlers
    if given.upper and given.work:
        tree = Union(given.layers, given.upper, given.work)
        handlers = partial(union_answers.handlers, tree)
    else:
        tree = Tree(given.layers)
        handlers = partial(answers.handlers, tree)
    tree.device = _mount(given.point)
    if not given.foreground:
        _detach()
    with suppress(PermissionError):  # it leads one already
        os.setsid()
    _agree(tree.device, rings=given.rings)
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    if given.rings:
        for cpu in range(possible_cpus()):
            Queue(cpu, tree.device, handlers).start()
    _read_ahead(given.point)
    serve(tree.device, handlers, rings=given.rings)


if __name__ == "__main__":
    main()
