"""Keep serving a mount whose supervisor cannot start or has failed.

The command that made the mount has reported that it is live before the supervisor's modules
were loaded, so it stays live even if the supervisor fails.  Signals still
unmount it; there is no control socket, and no counters.

Threading: the transport serves from its own threads.  One more thread waits for the end
of the connection, and the main thread waits for signals.
"""

from __future__ import annotations

import logging
import os
import signal
import threading

from mount_tools.daemon.detach import WATCHED
from mount_tools.daemon.transport import Running
from mount_tools.mount.fuse import FuseMount
from unionfs.errors import MountError

log = logging.getLogger(__name__)


def serve_unsupervised(running: Running, mount: FuseMount) -> bool:
    """Wait for the end of the connection, and unmount at SIGTERM, SIGINT or SIGHUP.

    Returns whether the connection ended well.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    healthy = True
    ended = threading.Event()

    def wait() -> None:
        nonlocal healthy
        try:
            running.join()
        except Exception:
            log.exception("the transport failed; %s is dead", mount.point)
            healthy = False
        finally:
            ended.set()
            os.kill(os.getpid(), signal.SIGUSR1)

    threading.Thread(target=wait, name="join", daemon=True).start()
    while True:
        number = signal.sigwait(WATCHED)
        if ended.is_set():
            return healthy
        if number == signal.SIGUSR1:
            continue
        log.info("%s: unmounting %s", signal.Signals(number).name, mount.point)
        try:
            mount.unmount()
        except (OSError, MountError) as error:
            log.error("cannot unmount %s: %s; still serving it", mount.point, error)
