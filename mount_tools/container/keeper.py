"""The keeper of a container: the process that has its streams, writes its log and waits for it.

It does what conmon does for podman.  The process that started the container is only a viewer,
which may end at any time; others connect to the socket in the container's directory.

Decided here and only here: where the command's output goes (to the log and to every viewer),
whose input it gets, and that a slow viewer slows the command down, as a pipe would.

Threading: one thread, which has the signals of `signals.TAKEN` blocked.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import struct
import termios
import time
from collections import deque
from contextlib import suppress

from layerstore.containers.container_log import LogWriter, Stream
from mount_tools.container.attach_messages import (
    PIECE,
    Connection,
    Ended,
    Gone,
    Input,
    InputEnd,
    Logged,
    Message,
    Output,
    OutputClosed,
    Resize,
    Signal,
    Taken,
    Watch,
)
from mount_tools.container.signals import TAKEN, attend
from mount_tools.container.started import Started, end_started
from mount_tools.container.streams import Streams
from mount_tools.daemon.peers import is_stranger
from mount_tools.daemon.report import Reporter
from mount_tools.leave import exit_code
from unionfs import light_socket as socket
from unionfs.syscalls.signalfd import signalfd

_NAMES: dict[int, Stream] = {1: "stdout", 2: "stderr"}
_LOOK_FOR_FDS = 0.01  # seconds between two attempts to accept a viewer without descriptors
_LOOK_FOR_ROOM = 500  # ms between two attempts to write to a log on a full disk
_LEFT_AT_THE_END = 64  # pieces to read after the end; a pipe or terminal has fewer


class _Viewer:
    """A viewer, and what it has not taken yet."""

    def __init__(self, connection: Connection, watch: Watch | None) -> None:
        self.connection = connection
        self.watch = watch
        self.waiting: deque[Message] = deque()

    def tell(self, message: Message) -> None:
        """Send `message`, or keep it until there is room.  Raises Gone."""
        if self.waiting or not self.connection.send(message):
            self.waiting.append(message)

    def go_on(self) -> None:
        """Send what waits, as far as there is room.  Raises Gone."""
        while self.waiting and self.connection.send(self.waiting[0]):
            self.waiting.popleft()


class Keeper:
    """Keeps one command: copies its streams until it ends, then tells the viewers.

    `first` is the viewer that started it, None with `run -d`.  When nobody reads the output of
    that viewer any more, the command gets SIGPIPE, and the command's stdin ends with that of
    the viewer.  `close` closes all arguments.
    """

    def __init__(
        self,
        streams: Streams,
        *,
        first: socket.socket | None,
        log: LogWriter | None = None,
        listener: socket.socket | None = None,
    ) -> None:
        self._streams = streams
        self._outputs = dict(streams.outputs)
        self._stdin = streams.stdin
        self._log = log
        self._listener = listener
        self._viewers: dict[int, _Viewer] = {}
        self._first: int | None = None
        self._input: tuple[_Viewer, bytes] | None = None
        self._paused = False
        self._target = 0
        self._signals = signalfd(TAKEN)
        self._poll = select.poll()
        for fd in (self._signals, *self._outputs):
            self._poll.register(fd, select.POLLIN)
        if listener is not None:
            self._poll.register(listener, select.POLLIN)
        if first is not None:
            self._first = first.fileno()
            self._add(first, Watch(output=True))

    def keep(self, started: Started, reporter: Reporter) -> int:
        """Report that the command runs; copy until it ends, and return its exit status."""
        try:
            with suppress(BrokenPipeError):  # nobody waits any more; the command runs on
                reporter.live()
            reporter.close()
            return self.attend(started)
        except BaseException:
            end_started(started.child)
            raise

    def attend(self, started: Started) -> int:
        """Copy until the command ends; return its exit status."""
        self._target = started.target

        def pass_on(taken: signal.struct_siginfo) -> None:
            self._kill(taken.si_signo)

        status = exit_code(attend(started.child, pass_on, wait=self._wait))
        self._target = 0
        self._drain()
        return status

    def close(self, status: int | None) -> None:
        """Send Ended with `status` to the viewers, after the rest of the output, and close.

        With None nothing is sent, because the command did not run.
        """
        for fd in list(self._outputs):
            self._close_output(fd)
        self._close_stdin()
        self._poll.unregister(self._signals)
        os.close(self._signals)
        if self._listener is not None:
            self._poll.unregister(self._listener)
            self._listener.close()
        if status is not None:
            for viewer in list(self._viewers.values()):
                self._tell(viewer, Ended(status))
            while any(viewer.waiting for viewer in self._viewers.values()):
                for fd, event in self._poll.poll():
                    self._serve_viewer(fd, event)
        for viewer in self._viewers.values():
            viewer.connection.close()
        self._viewers.clear()

    # -- the loop --

    def _wait(self) -> signal.struct_siginfo:
        """Copy until a signal of TAKEN comes; return that."""
        while True:
            for fd, event in self._poll.poll(self._patience()):
                if fd == self._signals:
                    taken = signal.sigtimedwait(TAKEN, 0)
                    if taken is not None:
                        return taken
                elif fd in self._viewers:
                    self._serve_viewer(fd, event)
                elif fd == self._stdin and event & (select.POLLOUT | select.POLLERR):
                    self._pass_input()
                    if fd in self._outputs and event & select.POLLIN:
                        self._copy(fd)
                elif fd in self._outputs:
                    self._copy(fd)
                elif self._listener is not None and fd == self._listener.fileno():
                    self._accept(self._listener)

    def _patience(self) -> int | None:
        """Return how many ms to wait for an event; say first what the log lost, if there is room.

        A disk does not tell when it has room again.
        """
        if self._log is None or not self._log.has_lost:
            return None
        if self._log.tell_lost():
            for viewer in list(self._viewers.values()):
                if viewer.watch is not None and not viewer.watch.output:
                    self._mention(viewer)
        return _LOOK_FOR_ROOM if self._log.has_lost else None

    def _copy(self, fd: int) -> bool:
        """Copy a piece of the command's output; False if there is none now, or no more."""
        try:
            data = os.read(fd, PIECE)
        except BlockingIOError:
            return False
        except OSError:  # EIO: no program has the terminal open
            data = b""
        if not data:
            self._close_output(fd)
            return False
        number = self._outputs[fd]
        logged = self._log is not None and self._log.write(_NAMES[number], data)
        for viewer in list(self._viewers.values()):
            if viewer.watch is None:
                continue
            if viewer.watch.output:
                self._tell(viewer, Output(number, data))
            elif logged:
                self._mention(viewer)
        return True

    def _drain(self) -> None:
        """Copy what the command left in its streams."""
        for fd in list(self._outputs):
            for _piece in range(_LEFT_AT_THE_END):
                if not self._copy(fd):
                    break
        if self._log is not None:
            self._log.close()

    def _close_output(self, fd: int) -> None:
        del self._outputs[fd]
        with suppress(KeyError):
            self._poll.unregister(fd)
        if fd != self._stdin:
            os.close(fd)

    # -- viewers --

    def _accept(self, listener: socket.socket) -> None:
        try:
            end, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            time.sleep(_LOOK_FOR_FDS)  # the files that the container has open are ours too
        else:
            self._welcome(end)

    def _welcome(self, end: socket.socket) -> None:
        if is_stranger(end):
            end.close()
        else:
            self._add(end, None)

    def _add(self, end: socket.socket, watch: Watch | None) -> None:
        viewer = _Viewer(Connection(end), watch)
        self._viewers[end.fileno()] = viewer
        self._poll.register(end, select.POLLIN)

    def _serve_viewer(self, fd: int, event: int) -> None:
        viewer = self._viewers.get(fd)
        if viewer is None:
            return
        try:
            if event & select.POLLOUT:
                viewer.go_on()
            if event & (select.POLLIN | select.POLLHUP | select.POLLERR):
                message = viewer.connection.receive()
                if message is not None:
                    self._obey(viewer, message)
        except Gone:
            self._drop(viewer)
        self._mind_the_slow()

    def _tell(self, viewer: _Viewer, message: Message) -> None:
        try:
            viewer.tell(message)
        except Gone:
            self._drop(viewer)
        self._mind_the_slow()

    def _mention(self, viewer: _Viewer) -> None:
        """Send Logged, unless the viewer has not received an earlier one yet."""
        try:
            viewer.connection.send(Logged())
        except Gone:
            self._drop(viewer)

    def _drop(self, viewer: _Viewer) -> None:
        fd = viewer.connection.fileno()
        self._poll.unregister(fd)
        del self._viewers[fd]
        viewer.connection.close()
        if self._first == fd:
            self._first = None

    def _mind_the_slow(self) -> None:
        """Read nothing from the command while a viewer has not taken all output."""
        slow = False
        for fd, viewer in self._viewers.items():
            self._poll.modify(fd, select.POLLIN | (select.POLLOUT if viewer.waiting else 0))
            if viewer.waiting and viewer.watch is not None and viewer.watch.output:
                slow = True
        if slow != self._paused:
            self._paused = slow
            for fd in self._outputs:
                self._register_stream(fd)

    def _register_stream(self, fd: int) -> None:
        events = select.POLLIN if fd in self._outputs and not self._paused else 0
        if fd == self._stdin and self._input is not None:
            events |= select.POLLOUT
        # Never registered without events: poll(2) would report POLLHUP again and again.
        with suppress(KeyError):
            self._poll.unregister(fd)
        if events:
            self._poll.register(fd, events)

    def _obey(self, viewer: _Viewer, message: Message) -> None:
        first = viewer.connection.fileno() == self._first
        match message:
            case Watch() if viewer.watch is None:
                viewer.watch = message
            case Input(data):
                self._take_input(viewer, data)
            case InputEnd() if first and self._streams.terminal is None:
                self._close_stdin()
            case OutputClosed(number) if first and self._streams.terminal is None:
                for fd, what in list(self._outputs.items()):
                    if what == number:
                        self._close_output(fd)
            case Resize(rows, columns) if self._streams.terminal is not None:
                with suppress(OSError, OverflowError, termios.error, struct.error):
                    termios.tcsetwinsize(self._streams.terminal, (rows, columns))
            case Signal(number):
                self._kill(number)

    def _kill(self, number: int) -> None:
        if self._target:
            with suppress(OSError):
                os.kill(self._target, number)

    # -- stdin --

    def _take_input(self, viewer: _Viewer, data: bytes) -> None:
        if self._stdin is None or self._input is not None:
            # There is no stdin, or another viewer's input waits: drop this input.
            self._tell(viewer, Taken())
            return
        self._input = (viewer, data)
        self._pass_input()

    def _pass_input(self) -> None:
        if self._input is None or self._stdin is None:
            return
        viewer, data = self._input
        try:
            with suppress(BlockingIOError):  # no program reads it, and the buffer is full
                data = data[os.write(self._stdin, data) :]
        except OSError:
            data = b""
            if self._streams.terminal is None:
                self._close_stdin()
        self._input = (viewer, data) if data else None
        if self._stdin is not None:
            self._register_stream(self._stdin)
        if not data and viewer.connection.fileno() in self._viewers:
            self._tell(viewer, Taken())

    def _close_stdin(self) -> None:
        if self._stdin is not None:
            with suppress(KeyError):
                self._poll.unregister(self._stdin)
            os.close(self._stdin)
            self._stdin = None
