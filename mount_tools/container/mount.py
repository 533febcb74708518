"""Mount a container's union where the user says, with the user's options.

Decided here and only here: that the daemon itself records the begin and the end of the mount.
A mounted container counts as running, with the daemon as its process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from layerstore.containers.container import Container
from layerstore.errors import Busy, StoreError
from layerstore.store import Store
from mount_tools.container.root_options import container_options
from mount_tools.container.running import PATIENCE_DETACHED, refuse_running, wait_for_end
from mount_tools.container.silent_keeper import wake
from mount_tools.daemon.detach import OK, Outcome, run_detached
from mount_tools.mount.fuse import mounted_on
from mount_tools.mount.mount_options import MountOptions
from mount_tools.mount.option_grammar import OptionError
from mount_tools.mount.options import parse_options
from mount_tools.mount.point import checked_mount_point
from mount_tools.mount.table import device_on
from unionfs.errors import ConfigError, MountBusy, MountError, error_text
from unionfs.light_logging import Logger
from unionfs.syscalls.mount import MS_RDONLY

PATIENCE = 60.0  # seconds for a daemon to write its upper back


def with_stack(asked: MountOptions, stack: MountOptions) -> MountOptions:
    """Return the options that were `asked` for, with the layers of the container's `stack`.

    The source that mount(8) shows, the log and the control socket are those of `stack`
    unless others were asked for.  A read-only mount has no control socket by default, since
    it has nothing to commit.

    Raises OptionError for metacopies: what is committed becomes a layer, which others read too.
    Kernel overlayfs refuses them without metacopy=on, and fuse-overlayfs takes them for zeros.
    """
    read_only = bool(asked.flags & MS_RDONLY)
    if asked.union.metacopy and not read_only:
        raise OptionError(
            "metacopy=on is for layers given by lowerdir=: what a container changes may become a "
            "layer of an image, which has to hold the data of its files; leave it out"
        )
    union = asked.union._replace(
        lowers=stack.union.lowers,
        upper=stack.union.upper,
        work=stack.union.work,
        read_only=read_only,
    )
    return asked._replace(
        union=union,
        fsname=asked.fsname or stack.fsname,
        log=asked.log or stack.log,
        control=asked.control or (None if read_only else stack.control),
    )


def mount_container(
    store: Store, container: Container, directory: str, options: Sequence[str] = ()
) -> None:
    """Mount `container` on `directory`, served by a daemon.

    `options` are strings of mount options as after `-o`.  Unless they say otherwise the
    mount is nosuid and nodev.  Raises StoreError if it cannot be mounted.
    """
    try:
        asked = parse_options(options, privileged=os.geteuid() == 0, of_image=True)
        union = asked.union
        if union.lowers or union.data or union.upper or union.work or asked.container:
            raise OptionError("the layers are the container's: leave out lowerdir= and the like")
        if asked.foreground:
            raise OptionError("a daemon serves the mount of a container; leave out foreground")
        point = checked_mount_point(directory)
        with store.containers.lock(container):
            container = store.containers.get(container.id)
            refuse_running(container)
            mixed = with_stack(_absolute(asked), container_options(store, container))
            # SQLite's locks do not survive a fork, and its memory of them does.
            store.database.close()
            outcome = run_detached(
                lambda live: serve_container(store, container, point, mixed, live)
            )
    except (ConfigError, MountError, OptionError) as error:
        raise StoreError(str(error)) from None
    if outcome.status != OK:
        raise StoreError(outcome.message)


def _absolute(options: MountOptions) -> MountOptions:
    """Return `options` with absolute paths: the daemon works in /."""
    return options._replace(
        log=None if options.log is None else os.path.abspath(options.log),
        control=None if options.control is None else os.path.abspath(options.control),
    )


def serve_container(
    store: Store,
    container: Container,
    directory: str,
    options: MountOptions,
    live: Callable[[], None],
    namespace: str | None = None,
) -> Outcome:
    """Serve the container's mount to its end, in the daemon, and keep its row up to date.

    At the end the row is the same as before the mount.
    """
    from mount_tools.daemon import log as log_to
    from mount_tools.daemon.serve import serve

    log_to.set_up(foreground=options.foreground, debug=options.debug, file=options.log)

    before = container

    def ready() -> None:
        nonlocal before
        before = store.containers.get(container.id)
        store.containers.started(container, os.getpid(), mount_point=directory)
        live()

    try:
        outcome = serve(directory, options, ready, namespace)
    except (ConfigError, MountError) as error:
        return Outcome(1, str(error))
    except OSError as error:
        return Outcome(1, error_text(error))
    try:
        store.containers.unmounted(before)
    except StoreError as error:
        Logger(__name__).info("the container has gone: %s", error)
    return outcome


def unmount_container(container: Container, *, detach: bool = False) -> None:
    """Unmount the container, and wait until its daemon has written everything back.

    With `detach` even if it is in use.  Raises Busy if the daemon does not end.
    """
    point, daemon = container.mount_point, container.process
    if point is None or daemon is None:
        raise StoreError(f"container {container.name} is not mounted")
    wake(container)
    try:
        # It may be unmounted already, and the daemon about to end.
        if device_on(point) is not None:
            mounted_on(point).unmount(detach=detach)
    except MountBusy as error:
        raise Busy(str(error)) from None
    except (OSError, MountError) as error:
        raise StoreError(f"cannot unmount {point}: {error}") from None
    if not wait_for_end(daemon, PATIENCE_DETACHED if detach else PATIENCE):
        raise Busy(
            f"{point} is unmounted here, but files in it are still open, or another mount "
            f"namespace shows it; its daemon, process {daemon.pid}, ends with the last of them"
        )
