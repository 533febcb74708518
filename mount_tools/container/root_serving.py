"""Serve a container's root, in the daemon: the only process of a container that needs the union.

Decided here and only here: that the daemon makes the mount points which the image lacks.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from layerstore.errors import StoreError
from mount_tools.container.mount_points import with_points
from mount_tools.container.root_options import RootOrder
from mount_tools.daemon import log as log_to
from mount_tools.daemon.detach import Outcome
from mount_tools.daemon.serve import serve
from mount_tools.mount.mount_options import MountOptions
from unionfs.errors import ConfigError, MountError, error_text


def serve_order(
    order: RootOrder, fuse: int, mounted: int, lock: int, live: Callable[[], None]
) -> Outcome:
    """Serve what `order` says at `fuse`, a /dev/fuse, to its end.

    `lock` is the container's lock, which is closed when its mount points are made; for
    `mounted` see `serve_in_namespace`.
    """
    options = order.options()
    try:
        union = with_points(options.union, order.directory, order.points)
    except StoreError as error:
        return Outcome(1, str(error))
    except OSError as error:
        return Outcome(1, error_text(error))
    finally:
        os.close(lock)
    return serve_in_namespace(fuse, options._replace(union=union), live, mounted)


def serve_in_namespace(
    fuse: int, options: MountOptions, live: Callable[[], None], mounted: int
) -> Outcome:
    """Serve the mount behind `fuse`, made in another mount namespace, to its end.

    `mounted` is a socket from which something can be read as soon as the mount is made.  If a
    pidfd comes with that, its process is killed when the other end of the socket is closed.
    """

    def wait() -> None:
        keeper = socket.socket(fileno=mounted)
        made, fds, _, _ = socket.recv_fds(keeper, 1, 1)
        if fds:
            # A thread of its own: the main one waits for signals, and the rest for requests.
            threading.Thread(target=_kill_after, args=(keeper, *fds), daemon=True).start()
            return
        keeper.close()
        if not made:
            raise MountError("the process that was to mount the root of the container has ended")

    # The process that runs the container has blocked signals; this one handles them.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    log_to.set_up(foreground=False, debug=False, file=options.log)
    try:
        return serve(f"/dev/fd/{fuse}", options, live, wait=wait)
    except (ConfigError, MountError) as error:
        return Outcome(1, str(error))
    except OSError as error:
        return Outcome(1, error_text(error))


def _kill_after(keeper: socket.socket, process: int) -> None:
    """Wait until the other end of `keeper` is closed, and kill the process, a pidfd."""
    keeper.recv(1)
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, signal.SIGKILL)
