"""What a start needs of the module socket, without its import: sockets between local processes.

The module socket makes enumerations of some 400 constants, and imports selectors: 1.3 ms of a
start.  For a type checker all names are those of socket, and they do the same; the numbers are
plain integers.

Source: the standard library's `socket.py`; unix(7) "SCM_RIGHTS".
"""

from __future__ import annotations

from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from socket import (
        AF_INET,
        AF_UNIX,
        CMSG_SPACE,
        MSG_CMSG_CLOEXEC,
        MSG_CTRUNC,
        MSG_DONTWAIT,
        MSG_TRUNC,
        SCM_RIGHTS,
        SHUT_RDWR,
        SO_PEERCRED,
        SO_SNDBUF,
        SOCK_DGRAM,
        SOCK_SEQPACKET,
        SOCK_STREAM,
        SOL_SOCKET,
        recv_fds,
        send_fds,
        sethostname,
        socket,
        socketpair,
    )
else:
    import _socket
    from _socket import (
        AF_INET,
        AF_UNIX,
        CMSG_SPACE,
        MSG_CMSG_CLOEXEC,
        MSG_CTRUNC,
        MSG_DONTWAIT,
        MSG_TRUNC,
        SCM_RIGHTS,
        SHUT_RDWR,
        SO_PEERCRED,
        SO_SNDBUF,
        SOCK_DGRAM,
        SOCK_SEQPACKET,
        SOCK_STREAM,
        SOL_SOCKET,
        sethostname,
    )
    from struct import calcsize, pack, unpack_from

    class socket(_socket.socket):
        """A socket, and a context manager that closes it."""

        __slots__ = ()

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.close()

        def accept(self):
            """Return a socket for the next connection, which waits, and the peer's address."""
            fd, address = self._accept()
            return type(self)(self.family, self.type, self.proto, fileno=fd), address

    def socketpair(family, kind):
        """Return two sockets that are connected to each other."""
        pair = _socket.socketpair(family, kind)
        one, other = (socket(family, kind, 0, fileno=end.detach()) for end in pair)
        return one, other

    def send_fds(to, buffers, fds):
        """Send `buffers` with descriptors; return the number of bytes sent."""
        return to.sendmsg(buffers, [(SOL_SOCKET, SCM_RIGHTS, pack(f"{len(fds)}i", *fds))])

    def recv_fds(end, size, most):
        """Return up to `size` bytes, up to `most` descriptors, flags, and the sender's address."""
        data, ancillary, flags, address = end.recvmsg(size, _socket.CMSG_LEN(most * calcsize("i")))
        fds = []
        for level, kind, content in ancillary:
            if (level, kind) == (SOL_SOCKET, SCM_RIGHTS):
                fds += unpack_from(f"{len(content) // calcsize('i')}i", content)
        return data, fds, flags, address


__all__ = [
    "AF_INET",
    "AF_UNIX",
    "CMSG_SPACE",
    "MSG_CMSG_CLOEXEC",
    "MSG_CTRUNC",
    "MSG_DONTWAIT",
    "MSG_TRUNC",
    "SCM_RIGHTS",
    "SHUT_RDWR",
    "SOCK_DGRAM",
    "SOCK_SEQPACKET",
    "SOCK_STREAM",
    "SOL_SOCKET",
    "SO_PEERCRED",
    "SO_SNDBUF",
    "recv_fds",
    "send_fds",
    "sethostname",
    "socket",
    "socketpair",
]
