"""Serve a container's root: in threads of its keeper, or in the daemon of a stage of a build.

Decided here and only here: that the mount points which the image lacks are made by the process
that serves the root, and what becomes of a keeper that cannot serve any more.

A process that serves a mount must never wait for it.  So a keeper looks at nothing inside of the
container, neither by a path nor by /proc/PID/root; and it forks before the threads start, since
a child would inherit the descriptors and locks of the union.

Threading: the main thread calls the methods of `RootServer`.  The union is opened, served and
closed in a thread of its own, and in those that the transport starts.  All signals that the main
thread blocked stay blocked in them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from layerstore.errors import StoreError
from mount_tools.container.mount_points import with_points
from mount_tools.container.root_options import RootOrder
from mount_tools.daemon import log as log_to
from mount_tools.daemon.detach import BUG, Outcome
from mount_tools.daemon.handover import GRACE, await_predecessor
from mount_tools.daemon.open_files import allow_many_files
from mount_tools.daemon.serve import serve
from mount_tools.mount.mount_options import MountOptions
from unionfs.errors import ConfigError, MountError, error_text
from unionfs.light_logging import Logger
from unionfs.syscalls.namespaces import CLONE_FS, unshare

log = Logger(__name__)


class RootServer:
    """Serves the root of one container in this process, which must not fork any more.

    The caller calls `serve` once the root is mounted, and `await_end` once no process of the
    container is left; or `cancel`.
    """

    def __init__(self, order: RootOrder, fuse: int) -> None:
        """Begin to open the union; `fuse`, an open /dev/fuse, is closed in the end.

        The caller holds the container's lock until `serve` returns.  Changes the limit of open
        files of this process.  Raises StoreError.
        """
        self._upper = os.fsencode(order.upper)
        self._fuse = fuse
        self._taken = False  # by the transport, which closes it
        self._mounted = False
        self._told = threading.Event()  # whether it is mounted
        self._live = False
        self._begun = threading.Event()  # or ended
        self._outcome = Outcome(BUG)
        allow_many_files()  # as long as there is no thread
        self._thread = threading.Thread(
            target=self._run, args=(order,), name="fuse-root", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError as error:
            os.close(fuse)
            raise StoreError(f"no thread can be started: {error}") from None

    def serve(self) -> None:
        """Serve the root, which is mounted now; return when it answers.  Raises StoreError."""
        self._mounted = True
        self._told.set()
        self._begun.wait()
        if not self._live:
            raise StoreError(self._outcome.message)

    def cancel(self) -> None:
        """Give up; if it serves already, the caller has ended the processes of the mount."""
        self._told.set()
        self._begun.wait()
        if self._live:
            self.await_end()

    def await_end(self) -> None:
        """Return when it has ended, or when another mount namespace keeps the mount alive.

        By then the upper is written back.
        """
        self._thread.join(GRACE)
        if self._thread.is_alive():
            await_predecessor(self._upper)

    def stay(self) -> None:
        """Serve a mount that another mount namespace keeps alive to its end."""
        self._thread.join()

    def _run(self, order: RootOrder) -> None:
        try:
            unshare(CLONE_FS)  # a umask of our own
            self._outcome = self._serve(order)
        except Exception as error:
            log.exception("the root of the container is not served")
            self._outcome = Outcome(BUG, f"a bug in PyUnion ({type(error).__name__}: {error})")
        if self._live and self._outcome.status == BUG:
            # Callers would wait for ever.  Now they get an error, the container ends with us,
            # and the next command that looks records that.
            os._exit(BUG)
        if not self._taken:
            os.close(self._fuse)
        self._begun.set()

    def _serve(self, order: RootOrder) -> Outcome:
        options = order.options()
        try:
            union = with_points(options.union, order.directory, order.points)
        except StoreError as error:
            return Outcome(1, str(error))
        except OSError as error:
            return Outcome(1, error_text(error))
        return _serve(self._fuse, options._replace(union=union), self._go_live, self._wait)

    def _wait(self) -> None:
        self._told.wait()
        if not self._mounted:
            raise MountError("the process that was to mount the root of the container has ended")
        self._taken = True

    def _go_live(self) -> None:
        self._live = True
        self._begun.set()


def serve_mounted(fuse: int, options: MountOptions, live: Callable[[], None]) -> Outcome:
    """Serve the mount behind `fuse`, made in another mount namespace, to its end: be a daemon."""
    return _serve(fuse, options, live, lambda: None)


def _serve(
    fuse: int, options: MountOptions, live: Callable[[], None], wait: Callable[[], None]
) -> Outcome:
    log_to.set_up(foreground=False, debug=False, file=options.log)
    try:
        return serve(f"/dev/fd/{fuse}", options, live, wait=wait)
    except (ConfigError, MountError) as error:
        return Outcome(1, str(error))
    except OSError as error:
        return Outcome(1, error_text(error))
