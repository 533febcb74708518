"""What signals do to a live mount.

Decided here and only here: SIGTERM, SIGINT and SIGHUP unmount; a mount in use is detached
and served until the kernel ends the connection.  If another mount namespace keeps it alive,
the log says which, and a second SIGTERM aborts the connection.  SIGUSR1 logs the counters.

Threading: any thread that serves no requests, since the kernel may send some before
umount2(2) returns.
"""

from __future__ import annotations

from mount_tools.mount.fuse import FuseMount
from unionfs.errors import MountError
from unionfs.light_logging import Logger
from unionfs.light_signal import signal
from unionfs.vfs import Filesystem

log = Logger(__name__)


class SignalHandler:
    """Does for one mount what its signals ask for.  Errors go to the log."""

    def __init__(self, fs: Filesystem, mount: FuseMount) -> None:
        self._fs = fs
        self._mount = mount
        self._unmounted = False

    def take(self, number: int) -> None:
        """Do what signal `number` asks for."""
        if number == signal.SIGUSR1:
            try:
                self._log_counters()
            except Exception:
                log.exception("the counters cannot be read")
        elif number == signal.SIGTERM and self._unmounted:
            self._abort()
        else:
            from signal import Signals  # enum, which a mount does without

            log.info("%s: unmounting %s", Signals(number).name, self._mount.point)
            self.unmount()
            if self._unmounted:
                self._tell_holders()

    def unmount(self) -> None:
        """Unmount; a mount that cannot be unmounted is still served."""
        try:
            self._mount.unmount()
            self._unmounted = True
        except (OSError, MountError) as error:
            log.error("cannot unmount %s: %s; still serving it", self._mount.point, error)

    def undo(self) -> None:
        """Unmount because the command that waited for the mount has gone."""
        log.warning("the command that mounted %s has gone; unmounting", self._mount.point)
        self.unmount()

    def _tell_holders(self) -> None:
        """Log which mount namespaces keep the unmounted filesystem alive, if any do."""
        device = self._mount.device
        if device is None:
            return
        from mount_tools.mount.holders import holders  # few mounts need it

        found = holders(device)
        if found:
            log.warning(
                "%s is unmounted here, but still mounted in other mount namespaces, and served "
                "until they end: %s; a second SIGTERM aborts the connection",
                self._mount.point,
                ", ".join(map(str, found)),
            )

    def _abort(self) -> None:
        log.warning("second SIGTERM: aborting the connection of %s", self._mount.point)
        device = self._mount.device
        try:
            if device is None:
                raise MountError("the device of the mount is not known")
            from mount_tools.mount.holders import abort_connection

            abort_connection(device)
        except MountError as error:
            log.error("%s; still serving %s", error, self._mount.point)

    def _log_counters(self) -> None:
        counters = self._fs.counters()
        log.info("counters: %s", " ".join(f"{name}={n}" for name, n in counters.items()))
