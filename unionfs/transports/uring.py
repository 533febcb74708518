"""FUSE-over-io_uring: requests in shared memory, each served on the CPU of its caller.

Every possible CPU of the machine gets a queue, and a thread that is pinned to the CPU.
So no other CPU has to be woken, and one system call both sends a reply and waits for the
next request.  FORGET and INTERRUPT are still read with read(2).

Source: Documentation/filesystems/fuse/fuse-io-uring.rst; fs/fuse/dev_uring.c.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from unionfs.gate import Gate
from unionfs.light_logging import Logger
from unionfs.syscalls.io_uring import COMMAND_AT, WAKE, Pinned, Ring, entry_of
from unionfs.transports.deferred import Deferred
from unionfs.transports.device import DeviceNotifier
from unionfs.transports.ring_watch import RingWatch
from unionfs.wire import abi
from unionfs.wire.request import Defer, Request, room_of
from unionfs.wire.session import MAX_WRITE, Session

log = Logger(__name__)

# How many requests of one CPU are served at the same time; further ones wait in the
# kernel.  There are many, because a request that waits for a disk keeps its entry.
_DEPTH = 32

# Errnos of an entry's completion when the connection ends.
_ENDED = (errno.ENOTCONN, errno.ECONNABORTED, errno.ECANCELED, errno.ENODEV)

_PATIENCE_S = 1.0

SWITCH = "/sys/module/fuse/parameters/enable_uring"
_POSSIBLE = "/sys/devices/system/cpu/possible"
_IOVEC = struct.Struct("=QQQQ")


def is_enabled() -> bool:
    """Tell whether the administrator has switched FUSE-over-io_uring on."""
    try:
        with open(SWITCH) as file:
            return file.read().strip() == "Y"
    except OSError:
        return False


def why_not() -> str:
    """Return why this machine offers no FUSE-over-io_uring, empty if it does."""
    if not os.path.exists(SWITCH):
        return "this kernel has no FUSE over io_uring (Linux 6.14)"
    return "" if is_enabled() else f"{SWITCH} is not Y"


def possible_cpus() -> int:
    """Return the number of CPUs for which the kernel wants queues: all possible ones."""
    with open(_POSSIBLE) as file:
        last = file.read().strip().split(",")[-1].split("-")[-1]
    return int(last) + 1


class RingEntry:
    """The memory for one request, its headers and its payload, shared with the kernel."""

    __slots__ = ("_pinned", "commit", "head", "iovecs", "request")

    def __init__(self) -> None:
        self.commit = bytearray()  # the command that sends the reply and fetches the next request
        self.head, payload = bytearray(abi.URING_HEADER_SIZE), room_of(MAX_WRITE)
        head, body = Pinned(self.head), Pinned(payload)
        parts = bytearray(_IOVEC.size)
        _IOVEC.pack_into(parts, 0, head.address, len(self.head), body.address, MAX_WRITE)
        self._pinned = (head, body, Pinned(parts))
        self.iovecs = self._pinned[2].address
        self.request = Request(self.head, abi.URING_OP_IN, payload, payload, 0)


class Queue:
    """The ring of one CPU, and the thread that serves it."""

    def __init__(self, cpu: int) -> None:
        """Set up the ring; raises the `OSError` of io_uring_setup(2)."""
        self.cpu = cpu
        self.ring = Ring(2 * _DEPTH)
        self._entries = [RingEntry() for _ in range(_DEPTH)]
        self._done: deque[int] = deque()
        self._registered = threading.Event()
        self._refusal = ""
        self._thread: threading.Thread | None = None

    def start(
        self,
        session: Session,
        gate: Gate,
        fuse_fd: int,
        deferred: Deferred,
        failed: Callable[[BaseException], None],
        watch: RingWatch,
    ) -> None:
        """Register with the connection `fuse_fd` and serve it from a new thread.

        `failed` is called with an exception that ends that thread early.
        """
        self._session, self._fd, self._deferred = session, fuse_fd, deferred
        self._gate, self._lane = gate, gate.lane()
        self._watch = watch

        def run() -> None:
            try:
                with suppress(OSError):  # the CPU may be offline
                    os.sched_setaffinity(0, {self.cpu})
                self._serve()
            except BaseException as error:
                failed(error)
            finally:
                self._registered.set()

        name = f"fuse-ring-{self.cpu}"
        self._thread = threading.Thread(target=run, name=name, daemon=True)
        self._thread.start()

    def refusal(self) -> str:
        """Return why the kernel does not use all of this queue, empty if it does.

        Waits until the thread that `start` started has registered with the connection.
        """
        self._registered.wait()
        return self._refusal

    def join(self) -> None:
        """Wait for the end of the connection and close the ring.

        A thread whose requests wait for a layer that does not answer is not waited for; it
        and its ring end with the process.
        """
        if self._thread is not None:
            self._thread.join(_PATIENCE_S if self._session.may_hang else None)
            if self._thread.is_alive():
                return
        self.ring.close()

    def _register(self) -> int:
        """Offer the entries to the kernel; return how many it has taken."""
        ring = self.ring
        ring.enable()
        for index, entry in enumerate(self._entries):
            entry.commit = entry_of(
                self._fd,
                abi.URING_CMD_COMMIT_AND_FETCH,
                index,
                abi.URING_CMD_REQ.pack(0, 0, self.cpu),
            )
            command = abi.URING_CMD_REQ.pack(0, 0, self.cpu)
            address = entry.iovecs
            ring.command(self._fd, abi.URING_CMD_REGISTER, index, command, address, 2)
        refused = ring.submit()
        if refused:
            self._refusal = f"registering the ring of CPU {self.cpu}: {os.strerror(-refused[0][1])}"
        self._registered.set()
        return len(self._entries) - len(refused)

    def _serve(self) -> None:
        alive = self._register()
        answer: bytearray | None = None
        exchange, take = self.ring.exchange, self._take
        while alive:
            found = exchange(answer)
            answer = None
            if found is None:
                continue
            index, result = found
            if index == WAKE:
                self._commit_done()
            elif result < 0:
                alive -= 1
                if -result not in _ENDED:
                    log.warning("an entry of CPU %d is lost: %s", self.cpu, os.strerror(-result))
            else:
                answer = take(index)

    def _take(self, index: int) -> bytearray | None:
        """Serve the request in entry `index`; return the command for its reply, if it has one."""
        entry = self._entries[index]
        request = entry.request
        (
            request.opcode,
            request.unique,
            request.nodeid,
            request.uid,
            request.gid,
            request.pid,
            commit_id,
            request.end,
        ) = abi.URING_REQUEST.unpack_from(entry.head)
        _COMMIT_ID.pack_into(entry.commit, _COMMIT_ID_AT, commit_id)
        request.wait = False
        lane = self._lane
        lane.busy = 1
        if self._watch.asleep:
            self._watch.rouse()
        if self._gate.closed:
            self._gate.wait(lane)
        try:
            length = self._session.answer(request, entry.head)
        except Defer:
            self._defer(index, request)
            return None
        finally:
            lane.busy = 0
        _PAYLOAD_SIZE.pack_into(entry.head, _PAYLOAD_SIZE_AT, length - _HEAD)
        return entry.commit

    def _defer(self, index: int, request: Request) -> None:
        if self._session.may_hang:
            copy = request.apart(self._session.argument_size(request.opcode))
            self._deferred.submit_job(request.unique, request.pid, _Job(self, index, copy))
        else:
            later = partial(self._answer_later, index)
            self._deferred.submit(request.unique, request.pid, later)

    def serve_apart(self, request: Request, head: bytearray) -> int:
        """Serve a request that may hang; return the length of the reply, its header in `head`."""
        with self._gate.passing():
            return self._session.answer(request, head)

    def finish(self, index: int, head: bytes | bytearray, body: memoryview) -> None:
        """Answer the request in entry `index`, from a worker."""
        entry = self._entries[index]
        entry.head[: len(head)] = head
        entry.request.out[: len(body)] = body
        _PAYLOAD_SIZE.pack_into(entry.head, _PAYLOAD_SIZE_AT, len(body))
        self._done.append(index)
        self.ring.wake()

    def take_back(self, request: Request, length: int) -> None:
        """Undo a request that was answered with EINTR."""
        self._session.take_back(request, length, DeviceNotifier(self._fd))

    def _answer_later(self, index: int) -> None:
        entry = self._entries[index]
        entry.request.wait = True
        with self._gate.passing():
            length = self._session.answer(entry.request, entry.head)
        _PAYLOAD_SIZE.pack_into(entry.head, _PAYLOAD_SIZE_AT, length - _HEAD)
        self._done.append(index)
        self.ring.wake()

    def _commit_done(self) -> None:
        while self._done:
            self.ring.queue(self._entries[self._done.popleft()].commit)


class _Job:
    """A request that may hang; see `deferred.Job`."""

    def __init__(self, queue: Queue, index: int, request: Request) -> None:
        self._queue = queue
        self._index = index
        self._request = request
        self._head = bytearray(abi.OUT_HEADER.size)
        self._length = 0

    def serve(self) -> None:
        self._length = self._queue.serve_apart(self._request, self._head)

    def reply(self) -> None:
        body = memoryview(self._request.out)[: self._length - len(self._head)]
        self._queue.finish(self._index, self._head, body)

    def give_up(self) -> None:
        head = abi.OUT_HEADER.pack(abi.OUT_HEADER.size, -errno.EINTR, self._request.unique)
        self._queue.finish(self._index, head, memoryview(b""))

    def take_back(self) -> None:
        self._queue.take_back(self._request, self._length)


_HEAD = abi.OUT_HEADER.size
_PAYLOAD_SIZE = struct.Struct("=I")
_PAYLOAD_SIZE_AT = abi.URING_ENT + 16
_COMMIT_ID = struct.Struct("=Q")
_COMMIT_ID_AT = COMMAND_AT + 8


def open_queues() -> list[Queue]:
    """Set up a queue for every CPU; raises `OSError` with the reason if that is refused."""
    if reason := why_not():
        raise OSError(errno.EOPNOTSUPP, reason)
    queues: list[Queue] = []
    try:
        for cpu in range(possible_cpus()):
            queues.append(Queue(cpu))
    except OSError as error:
        for queue in queues:
            queue.join()
        raise OSError(error.errno, f"io_uring_setup(2): {error.strerror}") from error
    return queues
