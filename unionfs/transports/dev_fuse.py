"""The direct transport: the kernel's own protocol, read from and written to /dev/fuse.

It carries what libfuse cannot: passthrough, zero-message opendir, fallocate,
lseek and the rest of `vfs.DirectFilesystem`.  One thread reads requests and
answers the quick ones at once; a request that may wait for a disk is handed to
a worker, which answers it by itself.

Source: fs/fuse/dev.c; Documentation/filesystems/fuse.rst.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import trio

from unionfs.errors import errno_of
from unionfs.transports.uring import open_queues
from unionfs.vfs import DirectFilesystem
from unionfs.wire import abi
from unionfs.wire.abi import Init, Opcode
from unionfs.wire.request import Defer, Request
from unionfs.wire.session import BUFFER_SIZE, MAX_WRITE, Session, Terms

log = logging.getLogger(__name__)

_WORKERS = 8
_FORGETS = (Opcode.FORGET, Opcode.BATCH_FORGET)

# Errnos of a read: the request was withdrawn before we got it.
_AGAIN = (errno.ENOENT, errno.EINTR, errno.EAGAIN)


async def carry(
    fs: DirectFilesystem,
    fuse_fd: int,
    *,
    timeout: float | None,
    acl: bool,
    xattrs: bool,
    io_uring: str = "auto",
    passthrough: bool = True,
    on_ready: Callable[[], None],
) -> None:
    """Serve `fs` over the mounted `fuse_fd` until the kernel ends the connection.

    `timeout` is how long the kernel may remember names and attributes, in
    seconds; None is for good.  `io_uring` is "auto", "on" or "off".  `on_ready`
    is called once, when the kernel has begun to talk.  Closes `fuse_fd`.
    """
    terms = Terms(
        timeout=timeout,
        acl=acl,
        xattrs=xattrs,
        backings=DeviceBackings(fuse_fd) if passthrough else None,
        stack_depth=fs.stack_depth(),
        uring=io_uring != "off",
    )
    connection = Connection(fs, fuse_fd, terms)
    try:
        await trio.to_thread.run_sync(connection.start)
        on_ready()
        await trio.to_thread.run_sync(connection.join)
    finally:
        os.close(fuse_fd)


class DeviceBackings:
    """The real files the kernel reads and writes by itself, registered at /dev/fuse.

    Source: fs/fuse/backing.c.
    """

    def __init__(self, fuse_fd: int) -> None:
        self._fuse_fd = fuse_fd
        self._refused = False

    def register(self, fd: int) -> int:
        if self._refused:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        try:
            # With a mutable argument the answer is the number, not the buffer.
            backing_map = bytearray(abi.BACKING_MAP.pack(fd, 0, 0))
            return int(fcntl.ioctl(self._fuse_fd, abi.DEV_IOC_BACKING_OPEN, backing_map))
        except PermissionError:
            # Not for us, and so not for any file.
            self._refused = True
            raise

    def close(self, backing_id: int) -> None:
        fcntl.ioctl(self._fuse_fd, abi.DEV_IOC_BACKING_CLOSE, backing_id.to_bytes(4, "little"))


class Connection:
    """A connection and the threads that serve it."""

    def __init__(self, fs: DirectFilesystem, fuse_fd: int, terms: Terms) -> None:
        self._fd = fuse_fd
        self._workers = ThreadPoolExecutor(_WORKERS, "fuse-worker")
        self._readers: list[threading.Thread] = []
        self._queues = open_queues() if terms.uring else []
        # Agreed on only with the rings in hand: the kernel waits for all of them.
        terms.uring = bool(self._queues)
        self.session = Session(fs, terms)
        self._failure: BaseException | None = None

    def start(self) -> None:
        """Answer INIT, then start to serve.  Raises `OSError` where the kernel is too old."""
        os.set_blocking(self._fd, True)
        buffer = bytearray(BUFFER_SIZE)
        length = os.readv(self._fd, [buffer])
        opcode = abi.IN_HEADER.unpack_from(buffer)[1]
        if opcode != Opcode.INIT:
            raise OSError(errno.EPROTO, f"the kernel began with opcode {opcode}, not with INIT")
        os.write(self._fd, self.session.init(memoryview(buffer)[:length]))
        log.info("FUSE 7.%d, %s", self.session.minor, self.session.flags)
        reader = threading.Thread(target=self._serve, name="fuse-reader")
        self._readers.append(reader)
        reader.start()
        if self.session.flags & Init.OVER_IO_URING:
            for queue in self._queues:
                queue.start(self.session, self._fd, self._workers, self._fail)

    def _fail(self, error: BaseException) -> None:
        log.error("serving ended by an error", exc_info=error)
        self._failure = error

    def join(self) -> None:
        """Wait for the end of the connection; raise what ended it before its time."""
        for reader in self._readers:
            reader.join()
        self._workers.shutdown()
        for queue in self._queues:
            queue.join()
        if self._failure is not None:
            raise self._failure

    def _serve(self) -> None:
        try:
            self._read_requests()
        except OSError as error:
            if error.errno not in (errno.ENODEV, errno.ECONNABORTED, errno.ENOTCONN):
                self._failure = error
        except BaseException as error:
            self._failure = error

    def _read_requests(self) -> None:
        fd, session = self._fd, self.session
        buffer = bytearray(BUFFER_SIZE)
        into = [buffer]
        request = _request_in(buffer)
        unpack, readv = abi.IN_HEADER.unpack_from, os.readv
        while True:
            try:
                length = readv(fd, into)
            except OSError as error:
                if error.errno in _AGAIN:
                    continue
                raise
            _, opcode, unique, nodeid, uid, gid, _, _ = unpack(buffer)
            if opcode in _FORGETS:
                session.forget(opcode, nodeid, buffer, abi.IN_HEADER.size)
                continue
            if opcode == Opcode.INTERRUPT:
                # What we do is either quick or must not stop half-way.
                continue
            request.opcode = opcode
            request.unique = unique
            request.nodeid = nodeid
            request.uid = uid
            request.gid = gid
            request.start = abi.IN_HEADER.size + session.argument_size(opcode)
            request.end = length
            try:
                self._answer(request)
            except Defer:
                self._workers.submit(self._answer_later, bytes(buffer[:length]))

    def _answer_later(self, message: bytes) -> None:
        buffer = bytearray(message)
        request = _request_in(buffer)
        header = abi.IN_HEADER.unpack_from(buffer)
        _, request.opcode, request.unique, request.nodeid, request.uid, request.gid, _, _ = header
        request.start = abi.IN_HEADER.size + self.session.argument_size(request.opcode)
        request.end = len(message)
        request.wait = True
        try:
            self._answer(request)
        except OSError as error:
            if error.errno != errno.ENODEV:
                log.exception("a reply was not taken")

    def _answer(self, request: Request) -> None:
        """Serve `request` and write the reply; raises `Defer` with nothing done."""
        size, code = 0, 0
        try:
            size = self.session.serve(request)
        except Defer:
            raise
        except OSError as error:
            code = -(error.errno or errno.EIO)
        except Exception as error:
            code = -errno_of(error, Opcode(request.opcode).name)
        length = abi.OUT_HEADER.size + size
        abi.OUT_HEADER.pack_into(request.out, 0, length, code, request.unique)
        try:
            os.write(self._fd, memoryview(request.out)[:length])
        except OSError as error:
            # The caller was killed, and waits for no answer.
            if error.errno != errno.ENOENT:
                raise


def _request_in(buffer: bytearray) -> Request:
    """Return a request that lies in one piece in `buffer`, with room for the largest reply."""
    out = bytearray(abi.OUT_HEADER.size + MAX_WRITE)
    return Request(buffer, abi.IN_HEADER.size, buffer, out, abi.OUT_HEADER.size)


def why_not() -> str:
    """Return why this machine cannot have this transport, or an empty string if it can."""
    release = os.uname().release
    numbers = [int(part) for part in re.findall(r"\d+", release)[:2]]
    return f"Linux {release} speaks FUSE before 7.31" if numbers < [5, 2] else ""
