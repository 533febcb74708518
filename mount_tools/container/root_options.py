"""The union that a container's processes see: what it is mounted with, and how it is served.

It is mounted with nothing but what is decided here, for `run`, `exec` and `build`;
`mount` mounts it for the user, with options of theirs.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from layerstore.containers.containers import Container, socket_path
from layerstore.store import Store
from mount_tools.daemon.detach import Outcome
from mount_tools.mount.mount_options import MountOptions
from unionfs import UnionConfig
from unionfs.errors import ConfigError, MountError


def container_options(
    store: Store, container: Container, *, transport: str = "auto", flags: int = 0
) -> MountOptions:
    """Return the options that mount `container`; `others` replace or add to the usual ones."""
    containers = store.containers
    directory = containers.directory(container)
    lowers = containers.lowers(container)
    if not lowers:
        lowers = [directory / "empty"]
        lowers[0].mkdir(mode=0o755, exist_ok=True)
    return MountOptions(
        union=UnionConfig(
            lowers=tuple(os.fsencode(path) for path in lowers),
            upper=os.fsencode(containers.upper(container)),
            work=os.fsencode(containers.work(container)),
        ),
        flags=flags,
        fsname=f"pyunion:{container.name}",
        allow_other=os.geteuid() == 0,
        transport=transport,
        control=os.fspath(socket_path(directory)),
        log=os.fspath(directory / "mount.log"),
    )


def serve_in_namespace(
    fuse: int, options: MountOptions, live: Callable[[], None], mounted: int
) -> Outcome:
    """Serve the mount behind `fuse`, made in another mount namespace, to its end.

    `mounted` is a pipe from which something can be read as soon as the mount is made.
    """
    from mount_tools.daemon import log as log_to
    from mount_tools.daemon.serve import serve

    def wait() -> None:
        made = os.read(mounted, 1)
        os.close(mounted)
        if not made:
            raise MountError("the process that was to mount the root of the container has ended")

    # The process that runs the container has blocked signals; this one handles them.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    log_to.set_up(foreground=False, debug=False, file=options.log)
    try:
        return serve(f"/dev/fd/{fuse}", options, live, wait=wait)
    except (ConfigError, MountError, OSError) as error:
        return Outcome(1, str(error))
