"""The direct transport: the kernel's own protocol, read from and written to /dev/fuse.

It carries what libfuse cannot: passthrough, zero-message opendir, fallocate,
lseek and the rest of `vfs.DirectFilesystem`.

Threading: a reader thread serves quick requests itself, and there are a few, so that
the next request is read even if one waits for a directory that is not in memory; see `turns`.
With io_uring there is a ring for each CPU instead, and one reader for
FORGET and INTERRUPT.  A request that may wait for a disk is handed to a worker,
which answers it.  An exception that ends one of these threads ends the daemon:
callers then get an error rather than no answer.

Source: fs/fuse/dev.c; Documentation/filesystems/fuse.rst.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
import time
from functools import partial
from itertools import takewhile

from unionfs.errors import MountError
from unionfs.gate import Lane
from unionfs.light_logging import Logger
from unionfs.syscalls.privilege import has_machine_caps
from unionfs.transports.deferred import Deferred
from unionfs.transports.device import DeviceBackings, DeviceCache, DeviceNotifier
from unionfs.transports.reader import Reader
from unionfs.transports.ring_watch import RingWatch
from unionfs.transports.turns import Turns
from unionfs.transports.uring import Queue, open_queues
from unionfs.types import NodeId
from unionfs.vfs import DirectFilesystem
from unionfs.wire import abi
from unionfs.wire.abi import Init, Opcode
from unionfs.wire.request import Defer, Request, Room, room_of
from unionfs.wire.session import BUFFER_SIZE, MAX_WRITE, Session, Terms

log = Logger(__name__)

_READERS = 3
_FORGETS = (Opcode.FORGET, Opcode.BATCH_FORGET)
_BODY = abi.IN_HEADER.size
# With rings, how long the reader waits after a FORGET, so that the kernel sends those that
# come meanwhile as one BATCH_FORGET.  Each wakes the reader, which then competes for the GIL.
_TOGETHER_S = 0.004
_SHORT = 4096  # bytes that hold any reply but data and listings

# Errnos of a read: the kernel withdrew the request before we got it.
_AGAIN = (errno.ENOENT, errno.EINTR, errno.EAGAIN)
# The errno of a write: the caller was killed and does not wait for an answer.
_UNWANTED = errno.ENOENT
# Errnos of a read or write: the connection was ended by an unmount or an abort.
_ENDED = (errno.ENODEV, errno.ECONNABORTED, errno.ENOTCONN)


def begin(
    fs: DirectFilesystem,
    fuse_fd: int,
    *,
    timeout: float | None,
    acl: bool,
    xattrs: bool,
    io_uring: str = "auto",
    passthrough: str = "on",
    no_open: bool = False,
) -> Connection:
    """Begin to serve `fs` over the mounted `fuse_fd`, which the connection closes at its end.

    `timeout` is how long the kernel may remember names and attributes, in
    seconds; None is for ever.  `io_uring` is "auto", "on" or "off", `passthrough`
    is "on", "all" or "off"; see `wire.files.Files`.  With `no_open`, for a read-only union,
    files are opened without a request.  Returns when INIT is answered and the
    threads run.

    Raises `MountError` if `io_uring` is "on" and not available, `OSError` if the kernel
    is too old.
    """
    backings = None
    # The kernel refuses it to other users, and a mount that asks for it can have
    # fewer filesystems stacked on it.
    if passthrough != "off" and has_machine_caps():
        backings = DeviceBackings(fuse_fd, keeps_groups=fs.may_hang())
    terms = Terms(
        timeout=timeout,
        acl=acl,
        xattrs=xattrs,
        backings=backings,
        pass_all=passthrough == "all",
        cache=DeviceCache(fuse_fd),
        stack_depth=fs.stack_depth(),
        may_hang=fs.may_hang(),
        counts_reads=fs.counts_reads(),
        no_open=no_open,
    )
    try:
        connection = Connection(fs, fuse_fd, terms, io_uring)
        fs.count_also(connection.session.counters)
        connection.start()
    except BaseException:
        os.close(fuse_fd)
        raise
    return connection


class Connection:
    """A connection and the threads that serve it."""

    def __init__(self, fs: DirectFilesystem, fuse_fd: int, terms: Terms, io_uring: str) -> None:
        """Raises `MountError` if `io_uring` is "on" and not available."""
        self._fd = fuse_fd
        self._deferred = Deferred(may_hang=terms.may_hang)
        self._readers: list[threading.Thread] = []
        self._turns = Turns()
        self._ring_watch = RingWatch()
        self._required = io_uring == "on"
        self._queues: list[Queue] = []
        self._on_rings = False  # whether requests come by the rings
        if io_uring == "auto" and terms.may_hang:
            # Every request goes to a worker, and an entry of a ring would wait with it.
            self._without_rings("a layer is on a network or FUSE filesystem")
        elif io_uring != "off":
            try:
                self._queues = open_queues()
            except OSError as error:
                self._without_rings(error.strerror)
        # Only if the rings exist: after INIT the kernel waits for all of them.
        self._on_rings = bool(self._queues)
        self.session = Session(fs, terms._replace(uring=self._on_rings))
        self.notifier = DeviceNotifier(fuse_fd, self.session.names_changed)
        self._over = threading.Event()
        self.gate = fs.gate
        self._failure: BaseException | None = None

    def start(self) -> None:
        """Answer INIT, then start to serve.

        Raises `OSError` if the kernel is too old, `MountError` if it does not offer
        io_uring, or refuses a ring, and io_uring is required.
        """
        os.set_blocking(self._fd, True)
        buffer = room_of(BUFFER_SIZE)
        length = os.readv(self._fd, [buffer])
        opcode = abi.IN_HEADER.unpack_from(buffer)[1]
        if opcode != Opcode.INIT:
            raise OSError(errno.EPROTO, f"the kernel began with opcode {opcode}, not with INIT")
        reply = self.session.init(memoryview(buffer)[:length])
        flags = self.session.flags
        if self._on_rings and not flags & Init.OVER_IO_URING:
            for queue in self._queues:
                queue.join()
            self._queues = []
            self._without_rings("the kernel does not offer it")
        log.info("FUSE 7.%d, %s", self.session.minor, abi.init_names(flags).lower())
        os.write(self._fd, reply)
        for queue in self._queues:
            queue.start(
                self.session, self.gate, self._fd, self._deferred, self._fail, self._ring_watch
            )
        # The kernel asks again whether io_uring is switched on, and may have no memory for a ring.
        # It then sends requests by read(2); what it has taken of the rings is served all the same.
        if refusals := [queue.refusal() for queue in self._queues if queue.refusal()]:
            self._without_rings(refusals[0])
        # With rings only FORGET and INTERRUPT are read from /dev/fuse.
        for number in range(1 if self._on_rings else _READERS):
            name = f"fuse-reader-{number}"
            reader = threading.Thread(target=self._serve, name=name, daemon=True)
            self._readers.append(reader)
            reader.start()
        if not self._on_rings:
            threading.Thread(target=self._turns.watch, name="fuse-watch", daemon=True).start()

    def leave_idle(self) -> None:
        """Let the process, which is to be SCHED_IDLE, be SCHED_OTHER while it has to wait."""
        if self._on_rings:
            self._ring_watch.policy.leaves_idle = True
            threading.Thread(target=self._ring_watch.watch, name="fuse-watch", daemon=True).start()
        else:
            self._turns.policy.leaves_idle = True

    def _without_rings(self, reason: str | None) -> None:
        self._on_rings = False
        if self._required:
            raise MountError(f"io_uring is not available: {reason}; leave out io_uring=on")
        log.info("without io_uring: %s", reason)

    def join(self) -> None:
        """Wait for the end of the connection and close it; raise the error that ended it early.

        After a failure the other threads run until the process ends, and callers that wait
        for an answer get an error.
        """
        self._over.wait()
        try:
            if self._failure is not None:
                raise self._failure
            for reader in self._readers:
                reader.join()
            if self.session.may_hang:
                # The thread of a ring ends when the requests in its entries are answered.
                self._deferred.join()
            for queue in self._queues:
                queue.join()
            if not self.session.may_hang:
                self._deferred.join()
            if self._failure is not None:
                raise self._failure
        finally:
            os.close(self._fd)

    def _fail(self, error: BaseException) -> None:
        """Note the error that ended a thread early, and end the connection."""
        self._failure = error
        self._over.set()

    def _serve(self) -> None:
        try:
            self._read_requests()
        except OSError as error:
            if error.errno not in _ENDED:
                self._fail(error)
            elif error.errno == errno.ECONNABORTED and not self._over.is_set():
                log.warning("the connection was aborted")
            self._over.set()
        except BaseException as error:
            self._fail(error)

    def _read_requests(self) -> None:
        buffer = room_of(BUFFER_SIZE)
        request = _request_in(buffer, room_of(_BODY + MAX_WRITE))
        reader = Reader(self.gate.lane(), request)
        try:
            self._read_all(reader, buffer)
        finally:
            reader.lane.busy = 0
            reader.close()
            self._turns.end()
            self._ring_watch.end()

    def _read_all(self, reader: Reader, buffer: mmap.mmap) -> None:
        fd, gate, turns = self._fd, self.gate, self._turns
        lane, request = reader.lane, reader.request
        into, out, reply = [buffer], request.out, memoryview(request.out)
        follows = not self._on_rings
        unpack, readv, write = abi.IN_HEADER.unpack_from, os.readv, os.write
        answer, sizes = self.session.answer, self.session.argument_sizes
        while True:
            lane.busy = 0
            if turns.holder is not reader:
                turns.wait(reader)
            try:
                length = readv(fd, into)
            except OSError as error:
                if error.errno in _AGAIN:
                    continue
                raise
            lane.busy = 1
            if turns.asleep and turns.holder is reader:
                turns.rouse()
            if gate.closed:
                gate.wait(lane)
            (
                _,
                opcode,
                request.unique,
                request.nodeid,
                request.uid,
                request.gid,
                pid,
                _,
            ) = unpack(buffer)
            size = sizes.get(opcode, -1)
            if size < 0:
                if self._take_notice(opcode, request.nodeid, buffer, lane):
                    continue
                size = 0
            request.opcode = opcode
            request.pid = pid
            request.start = _BODY + size
            request.end = length
            if pid == reader.pid:
                reader.left -= 1
                if not reader.left and follows:
                    reader.look()
            else:
                reader.change_client(pid)
            try:
                length = answer(request, out)
            except Defer:
                self._defer(request, bytes(buffer[:length]))
                continue
            try:
                write(fd, reply[:length])
            except OSError as error:
                if error.errno != _UNWANTED:
                    raise

    def _take_notice(self, opcode: int, nodeid: NodeId, buffer: mmap.mmap, lane: Lane) -> bool:
        """Serve the request in `buffer` if it has no reply; tell whether that is so."""
        if opcode in _FORGETS:
            self.session.forget(opcode, nodeid, buffer, _BODY)
            if self._on_rings:
                lane.busy = 0
                time.sleep(_TOGETHER_S)
            return True
        if opcode == Opcode.INTERRUPT:
            self._deferred.interrupt(abi.INTERRUPT_IN.unpack_from(buffer, _BODY)[0])
            return True
        return False

    def _defer(self, request: Request, message: bytes) -> None:
        if self.session.may_hang:
            copy = request.apart(self.session.argument_size(request.opcode))
            self._deferred.submit_job(request.unique, request.pid, _Job(self, copy))
        else:
            later = partial(self._answer_later, message)
            self._deferred.submit(request.unique, request.pid, later)

    def _answer_later(self, message: bytes) -> None:
        header = abi.IN_HEADER.unpack_from(message)
        # READ is the only slow request with a long reply.
        is_read = header[1] == Opcode.READ
        size = abi.READ_IN.unpack_from(message, _BODY)[2] if is_read else 0
        request = _request_in(bytearray(message), bytearray(_SHORT + size))
        _, request.opcode, request.unique, request.nodeid, *ids, _ = header
        request.uid, request.gid, request.pid = ids
        request.start = _BODY + self.session.argument_size(request.opcode)
        request.end = len(message)
        request.wait = True
        try:
            with self.gate.passing():
                self._answer(request)
        except OSError as error:
            if error.errno not in _ENDED:
                log.exception("a reply was not taken")

    def send(self, reply: bytes | memoryview) -> None:
        """Write a reply from a worker; a connection that has ended takes none."""
        try:
            self._write(reply)
        except OSError as error:
            if error.errno not in _ENDED:
                log.exception("a reply was not taken")

    def _answer(self, request: Request) -> None:
        """Serve `request` and write the reply; raises `Defer` with nothing done."""
        length = self.session.answer(request, request.out)
        self._write(memoryview(request.out)[:length])

    def _write(self, reply: bytes | memoryview) -> None:
        try:
            os.write(self._fd, reply)
        except OSError as error:
            if error.errno != _UNWANTED:
                raise


class _Job:
    """A request that may hang; see `deferred.Job`."""

    def __init__(self, connection: Connection, request: Request) -> None:
        self._connection = connection
        self._request = request
        self._length = 0

    def serve(self) -> None:
        connection, request = self._connection, self._request
        with connection.gate.passing():
            self._length = connection.session.answer(request, request.out)

    def reply(self) -> None:
        self._connection.send(memoryview(self._request.out)[: self._length])

    def give_up(self) -> None:
        size = abi.OUT_HEADER.size
        self._connection.send(abi.OUT_HEADER.pack(size, -errno.EINTR, self._request.unique))

    def take_back(self) -> None:
        session, notifier = self._connection.session, self._connection.notifier
        session.take_back(self._request, self._length, notifier)


def _request_in(buffer: Room, out: Room) -> Request:
    """Return a request that is in one piece in `buffer`, with its reply in `out`."""
    return Request(buffer, _BODY, buffer, out, abi.OUT_HEADER.size)


def why_not() -> str:
    """Return why this machine does not support this transport, empty if it does."""
    release = os.uname().release
    major, _, rest = release.partition(".")
    numbers = [int(major), int("".join(takewhile(str.isdigit, rest)) or 0)]
    return f"Linux {release} speaks FUSE before 7.31" if numbers < [5, 2] else ""
