"""The messages between the processes of a build: pickled tuples over socket pairs.

    builder ---- Recorded -----------------------> a stage's process
            <--- Began, Finished, Broke, Ready ---
            <--- Unserved ------------------------
            ---- Serving, Printed --------------->
            <--- Stopped -------------------------
                                                      | Pack
    builder <--- Leased, Kept, Stopped ----------- the stage's packer

All of them are forks of one process, and no process of a RUN inherits a socket.  If a
connection ends without the expected message, the other process has died.
"""

from __future__ import annotations

import pickle
import select
import struct

from layerstore.oci.digest import Digest
from unionfs import light_socket as socket
from unionfs.light_typing import NamedTuple

_LARGEST = 1 << 18  # bytes of a message
_MOST_FDS = 200  # of the kernel's 253
_FD = struct.Struct("i")


class Began(NamedTuple):
    """The stage's process begins with a step."""

    step: int


class Finished(NamedTuple):
    """A step is done, at `created_ns`; `number` is its frozen layer, None if it made none.

    `unread` says that some of its output was not read yet; the sender waits for Printed then.
    """

    step: int
    seconds: float
    created_ns: int
    number: int | None
    unread: bool = False


class Broke(NamedTuple):
    """A step has failed: `status` is that of its command, or 0, and then `text` says why.

    `code` is the errno that stopped it, 0 if none did.
    """

    step: int
    status: int
    text: str
    code: int = 0


class Ready(NamedTuple):
    """All steps of the stage are done; the message carries a descriptor of its root."""


class Recorded(NamedTuple):
    """The store has the pid of the stage's process, which may begin."""


class Leased(NamedTuple):
    """The packer has its lease, and waits for layers."""


class Unserved(NamedTuple):
    """Our union is mounted as the stage's root, but no process serves it yet.

    The message carries the descriptor to serve.
    """


class Serving(NamedTuple):
    """A daemon serves the mount."""


class Printed(NamedTuple):
    """The output of the step that has finished is read, and that of the next one may begin."""


class Pack(NamedTuple):
    """A step is done, and `number`, if it is not None, is its frozen layer.

    `any_names` is that of `layerstore.layer.pack.pack`.
    """

    step: int
    created_ns: int
    number: int | None
    any_names: bool


class Kept(NamedTuple):
    """A step's layer, if it has one, and all before it are in the store.

    `chain` is the chain_id of the topmost layer after the step; `diff_id` is None if
    the step made no layer.
    """

    step: int
    created_ns: int
    diff_id: Digest | None
    chain: Digest | None


class Stopped(NamedTuple):
    """The sender cannot go on; `text` says why, and `code` is an errno or 0.

    `step` is the step that it was about, -1 for none.
    """

    text: str
    code: int = 0
    step: int = -1


Message = (
    Began
    | Finished
    | Broke
    | Ready
    | Recorded
    | Leased
    | Unserved
    | Serving
    | Printed
    | Pack
    | Kept
    | Stopped
)


class Link:
    """One end of a connection between two processes of a build."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: Message, *fds: int) -> None:
        """Send `message`, and descriptors with it; raises BrokenPipeError if the peer is closed."""
        data = pickle.dumps(message)
        try:
            if fds:
                socket.send_fds(self._socket, [data], list(fds))
            else:
                self._socket.send(data)
        except ConnectionResetError:  # it had not received all that was sent before
            raise BrokenPipeError from None

    def receive(self) -> tuple[Message, list[int]] | None:
        """Wait for the next message, and the descriptors that it carries; None at the end."""
        try:
            # Not recv_fds(): it ignores its argument `flags`.
            data, ancillary, _, _ = self._socket.recvmsg(
                _LARGEST, socket.CMSG_SPACE(_MOST_FDS * _FD.size), socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionResetError:
            return None
        if not data:
            return None
        message: Message = pickle.loads(data)
        return message, [fd for _, _, sent in ancillary for (fd,) in _FD.iter_unpack(sent)]

    def has_message(self) -> bool:
        """Tell whether `receive` would return at once."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


def link() -> tuple[Link, Link]:
    """Return the two ends of a new connection."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LARGEST)
    return Link(ours), Link(theirs)
