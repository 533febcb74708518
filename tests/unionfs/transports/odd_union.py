"""A union with odd names in its root, served by the direct transport, for tests of that.

    python -m tests.unionfs.transports.odd_union IO_URING DIRECTORY POINT

DIRECTORY holds `lower`, `upper`, `work` and `gate`.  Looking up `bug` raises
what is no OSError, and `strange` an errno that no kernel takes.  Opening a
name that begins with `slow` is done by a worker, which waits until `gate` is
gone; `endless` waits until its caller is killed.  Lines of standard input are
notices to the kernel: the name of a method of `Notifier` and its arguments;
each is answered by a line when it is done.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable

from mount_tools.mount.fuse import mount_fuse
from mount_tools.mount.options import parse_options
from unionfs.core.config import UnionConfig
from unionfs.core.setup import open_state
from unionfs.core.union import UnionFs
from unionfs.interrupts import stop_if_abandoned
from unionfs.transports.dev_fuse import begin
from unionfs.types import ROOT_NODEID, Attr, Fh, NodeId
from unionfs.vfs import Notifier


class OddUnion(UnionFs):
    """See above."""

    held_back_by: str
    odd: dict[int, bytes]

    def lookup(self, parent: NodeId, name: bytes) -> Attr | None:
        if name == b"bug":
            raise KeyError(name)
        if name == b"strange":
            raise OSError(524, "ENOTSUPP, which the kernel keeps for itself")
        attr = super().lookup(parent, name)
        if attr is not None and name.startswith((b"slow", b"endless")):
            self.odd[attr.nodeid] = name
        return attr

    def slow_open(self, nodeid: NodeId, flags: int) -> bool:
        return nodeid in self.odd or super().slow_open(nodeid, flags)

    def open_small(
        self, nodeid: NodeId, flags: int, wait: bool
    ) -> tuple[Fh, int, bytearray | None] | None:
        return None if nodeid in self.odd else super().open_small(nodeid, flags, wait)

    def open(self, nodeid: NodeId, flags: int) -> Fh:
        name = self.odd.get(nodeid)
        while name is not None and (name == b"endless" or os.path.exists(self.held_back_by)):
            stop_if_abandoned()
            time.sleep(0.01)
        return super().open(nodeid, flags)


def take_orders(notifier: Notifier) -> None:
    orders: dict[str, Callable[..., None]] = {
        "forget_attributes": lambda nodeid: notifier.forget_attributes(NodeId(int(nodeid))),
        "forget_inode": lambda nodeid: notifier.forget_inode(NodeId(int(nodeid))),
        "forget_name": lambda name: notifier.forget_name(ROOT_NODEID, os.fsencode(name)),
    }
    for line in sys.stdin:
        order, *arguments = line.split()
        orders[order](*arguments)
        print("done", flush=True)


def main() -> None:
    io_uring, directory, point = sys.argv[1:]
    lower, upper, work = (os.fsencode(f"{directory}/{name}") for name in ("lower", "upper", "work"))
    fs = OddUnion(open_state(UnionConfig(lowers=(lower,), upper=upper, work=work)))
    fs.held_back_by = f"{directory}/gate"
    fs.odd = {}
    words = f"lowerdir={directory}/lower,upperdir={directory}/upper,workdir={directory}/work"
    options = parse_options([words], privileged=True)
    mount = mount_fuse(point, options)

    connection = begin(fs, mount.fd, timeout=None, acl=True, xattrs=True, io_uring=io_uring)
    threading.Thread(target=take_orders, args=(connection.notifier,), daemon=True).start()
    connection.join()
    fs.close()


if __name__ == "__main__":
    main()
