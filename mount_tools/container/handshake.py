"""The messages of the processes that start a command in a container.

    keeper                       outer process               init, process 1      command
       | forks it  ------------------>|
       |                              | makes the namespaces,
       |                              | mounts the root
       |                              | forks init ------------->|
       |<----------- Begun -----------|                          |
       | waits until the root is      | ends                     |
       | served, writes the pid of                               |
       | init to the store                                       |
       |------------ Recorded ---------------------------------->|
       |                                                         | mounts /proc and more
       |<----------- Terminal, if one is asked for --------------|
       |                                                         | forks the command -->|
       |<----------- Failed, at any time, by each of them        |                      | execve
       |<----------- Running ------------------------------------|

Without an init process 1 becomes the command, and the keeper sees that by itself.  So it does
for `exec`: the outer process enters the container, sends Terminal and then Begun with the pid of
the command, and ends.

Decided here and only here: what these messages are, and that silence means death.  A
channel whose other end is closed before the expected message came has lost the process
there; `Running` is sent only after execve(2) has succeeded.

Source: unix(7) SOCK_SEQPACKET, SCM_RIGHTS; Linux include/linux/sched.h PF_FORKNOEXEC.
"""

from __future__ import annotations

import os
import select
import signal
import struct
from contextlib import suppress

from unionfs import light_socket as socket
from unionfs.light_typing import NamedTuple, TypeVar
from unionfs.syscalls.namespaces import die_with_parent

REFUSED = 125
CANNOT_INVOKE = 126
NOT_FOUND = 127

_PF_FORKNOEXEC = 0x40
_LONGEST_TEXT = 4096  # bytes
_LONGEST = _LONGEST_TEXT + 64


class Begun(NamedTuple):
    """The root is mounted, and init exists; `pid` is its pid for the keeper."""

    pid: int


class Recorded(NamedTuple):
    """The root is served, and the store has the pid of init."""


class Terminal(NamedTuple):
    """The master of the command's terminal; the receiver closes the descriptor."""

    fd: int


class Running(NamedTuple):
    """The command runs: execve(2) has succeeded."""


class Failed(NamedTuple):
    """The command does not run: the exit status to end with, and a sentence for the user."""

    status: int
    text: str


Message = Begun | Recorded | Terminal | Running | Failed
Expected = TypeVar("Expected", Begun, Recorded, Terminal, Running)

_WORDLESS = (Recorded(), Running())
_KINDS = (Recorded, Running, Begun, Terminal, Failed)
_HEAD = struct.Struct("=Bq")
_FD = struct.Struct("i")


class CannotStart(Exception):
    """The command cannot be run: the exit status and a sentence for the user."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Silence(Exception):
    """The process at the other end ended, or closed its end, without the expected message."""


class Channel:
    """One end of the connection between the keeper and the processes inside."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._peer: int | None = None

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: Message) -> None:
        """Send `message`.

        Raises Silence if the other end is closed, CannotStart if it had sent Failed.
        """
        number, text, fds = 0, b"", []
        match message:
            case Begun(pid):
                number = pid
            case Terminal(fd):
                fds = [fd]
            case Failed(status, sentence):
                number = status
                text = sentence.encode(errors="surrogateescape")[:_LONGEST_TEXT]
        data = _HEAD.pack(_KINDS.index(type(message)), number) + text
        try:
            socket.send_fds(self._socket, [data], fds)
        except (BrokenPipeError, ConnectionResetError):
            self.raise_failure()
            raise Silence from None

    def expect(self, kind: type[Expected]) -> Expected:
        """Wait for the next message, which must be of that kind.

        Raises CannotStart for Failed, Silence if the other end is closed.
        """
        message = self._receive()
        if isinstance(message, Failed):
            raise CannotStart(message.status, message.text)
        if not isinstance(message, kind):
            raise RuntimeError(f"{message} came where {kind.__name__} was expected")
        return message

    def raise_failure(self, within_s: float = 0) -> None:
        """Raise CannotStart if Failed has come, Silence if the watched child has ended.

        Waits `within_s` for either.
        """
        poll = select.poll()
        for fd in (self._socket.fileno(), self._peer):
            if fd is not None:
                poll.register(fd, select.POLLIN)
        while poll.poll(within_s * 1000):
            message = self._receive()
            if isinstance(message, Failed):
                raise CannotStart(message.status, message.text)

    def wait_for_execve(self, child: int) -> None:
        """Wait until `child`, alone at the other end, has run another program.

        It is our child, or that of the process that `watch` named, which ends as `child` does.

        Raises CannotStart for Failed, Silence if it ended before that.
        """
        with suppress(Silence):
            self.expect(Running)  # it does not send that, and execve(2) closes its end
        proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            executed = has_executed(proc, child)
        except ChildProcessError:
            executed = self._peer_ended_well()
        finally:
            os.close(proc)
        if not executed:
            raise Silence

    def _peer_ended_well(self) -> bool:
        """Tell whether the process that `watch` named, our child, ended without a signal.

        That is the outer process, which has waited for its child and ends as that did.
        """
        if self._peer is None:
            return False
        ended = os.waitid(os.P_PIDFD, self._peer, os.WEXITED | os.WNOWAIT)
        return ended is not None and ended.si_code == os.CLD_EXITED and ended.si_status < 128

    def watch(self, pid: int) -> None:
        """Treat the end of our child `pid` as silence, even if others have that end open."""
        if self._peer is not None:
            os.close(self._peer)
            self._peer = None
        self._peer = os.pidfd_open(pid)

    def close(self) -> None:
        """Close this end.  The other end sees that when no process has this one open."""
        self._socket.close()
        if self._peer is not None:
            os.close(self._peer)
            self._peer = None

    def _receive(self) -> Message:
        flags = 0
        if self._peer is not None:
            poll = select.poll()
            for fd in (self._socket.fileno(), self._peer):
                poll.register(fd, select.POLLIN)
            poll.poll()
            flags = socket.MSG_DONTWAIT  # what it sent before its end is still there
        try:
            # Not recv_fds(), which takes flags and forgets them.
            data, ancillary, _, _ = self._socket.recvmsg(
                _LONGEST, socket.CMSG_SPACE(_FD.size), flags | socket.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, ConnectionResetError):
            raise Silence from None
        if not data:
            raise Silence
        fds = [fd for _, _, sent in ancillary for (fd,) in _FD.iter_unpack(sent)]
        kind, number = _HEAD.unpack_from(data)
        found = _KINDS[kind]
        if found is Begun:
            return Begun(number)
        if found is Terminal:
            if not fds:
                raise RuntimeError("no descriptor came with the message Terminal")
            return Terminal(fds[0])
        if found is Failed:
            return Failed(number, data[_HEAD.size :].decode(errors="surrogateescape"))
        return _WORDLESS[kind]


def channel() -> tuple[Channel, Channel]:
    """Return the two ends of a new connection; each process closes the one that it does not use."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Channel(ours), Channel(theirs)


def end_with(parent: int) -> None:
    """Let the kernel kill us when our parent, the pidfd `parent`, ends; end now if it has.

    Source: prctl(2) PR_SET_PDEATHSIG, which does nothing if the parent has ended before.
    """
    die_with_parent(signal.SIGKILL)
    poll = select.poll()
    poll.register(parent, select.POLLIN)
    if poll.poll(0):
        raise Silence


def has_executed(proc: int, child: int) -> bool:
    """Tell whether `child`, ours and not waited for yet, has run another program.

    Raises ChildProcessError for that of another process which has waited for it.
    The caller has waited until the child's close-on-exec descriptors were closed, which
    happens in execve(2), and if the child is killed.  `proc` is an open /proc that shows it.
    """
    try:
        line = _read(proc, f"{child}/stat")
    except OSError:
        # The outer process has waited for it, or /proc is mounted with hidepid.  A child that did
        # not get as far as execve(2) was killed, or has sent Failed, which the keeper receives
        # before our Running.
        ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return ended is None or ended.si_code == os.CLD_EXITED
    # Field 9, counted behind the name, which may contain anything.
    flags = int(line[line.rindex(b")") + 2 :].split()[6])
    return not flags & _PF_FORKNOEXEC


def _read(proc: int, name: str) -> bytes:
    """Return the content of a file of /proc; reading fails too once the process is gone."""
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)


def report_failure(to: Channel, status: int, text: str) -> None:
    """Send Failed, if anybody still waits for it."""
    with suppress(Silence):
        to.send(Failed(status, text))
