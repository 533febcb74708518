"""One mount, from the open union to its end: choose a transport, mount, serve, unmount.

Decided here and only here: the order of these steps.  The mount is live as early as
possible.  Only a transport without threads of its own needs trio and its supervisor.
Signals that arrive before they are waited for stay blocked until then.

Threading: this is a thread that serves no requests: the main one, or in a process that does
more than serve a mount another one, which leaves signals alone.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from mount_tools.daemon.attend import Attendant, joined, takes_signals
from mount_tools.daemon.detach import BUG, OK, SYSTEM, WATCHED, Outcome
from mount_tools.daemon.handover import announced_closing, await_predecessor
from mount_tools.daemon.open_files import allow_many_files
from mount_tools.daemon.signals import SignalHandler
from mount_tools.daemon.transport import Running, Transport, load_transport
from mount_tools.mount.fuse import FuseMount, adopt, mount_fuse
from mount_tools.mount.mount_options import MountOptions
from mount_tools.mount.namespace import MountNamespace
from mount_tools.mount.point import check_layers_apart, checked_mount_point, inherited_fd
from unionfs import open_union
from unionfs.credentials import CAP_SYS_RESOURCE
from unionfs.errors import ConfigError, MountError, error_text
from unionfs.light_logging import Logger
from unionfs.light_signal import signal
from unionfs.light_typing import TYPE_CHECKING
from unionfs.syscalls.lowered import give_up
from unionfs.syscalls.scheduling import become_idle, idle_can_be_left, idle_is_free
from unionfs.vfs import Filesystem, Notifier

if TYPE_CHECKING:
    from mount_tools.daemon.control_server import Answer, ControlServer
    from unionfs import light_socket as socket

log = Logger(__name__)

_LIBRARIES = ("/usr/lib", "/usr/local/lib", "/lib", "/lib64", "/etc")


def serve(
    directory: str,
    options: MountOptions,
    live: Callable[[], None],
    namespace: str | None = None,
    wait: Callable[[], None] = lambda: None,
) -> Outcome:
    """Mount the union that `options` describe on `directory` and serve it to its end.

    `live()` is called as soon as the mount answers requests.  `namespace` is the path of a
    mount namespace to mount in.  If `directory` is an inherited /dev/fuse, `wait()` returns
    when that is mounted.  Changes the umask and the limit of open files of this process.

    Raises `ConfigError` or `MountError` with nothing mounted.
    """
    os.umask(0)
    allow_many_files()
    transport = load_transport(options)
    # What is missing must be known before anything is mounted.
    if transport.on_trio:
        import mount_tools.daemon.supervise
    if options.control is not None:
        import mount_tools.daemon.control_server

        if covers_our_code(directory):
            import mount_tools.daemon.control  # noqa: F401 - takes long, and is rarely needed
    make_mount = _way_to_mount(directory, options, namespace, wait)
    with _signals_held():
        return _mount_and_serve(directory, make_mount, options, transport, live)


def _way_to_mount(
    directory: str, options: MountOptions, namespace: str | None, wait: Callable[[], None]
) -> Callable[[], FuseMount]:
    """Check the mount point; return the function that mounts on it after the union is open."""
    fd = inherited_fd(directory)
    if fd is not None:
        fuse = fd

        def adopted() -> FuseMount:
            wait()
            return adopt(fuse)

        return adopted
    if namespace is None:
        point = checked_mount_point(directory)
        check_layers_apart(options.union, point)
        return lambda: mount_fuse(point, options)
    other = MountNamespace(namespace)
    point = other.checked_mount_point(directory)
    check_layers_apart(options.union, point)

    def mount() -> FuseMount:
        try:
            return other.mount(point, options)
        finally:
            other.close()

    return mount


def covers_our_code(directory: str) -> bool:
    """Tell whether a mount on `directory` hides files that this process may load later.

    Loading a library from our own mount would deadlock: dlopen(3) holds the interpreter's
    lock, and the threads that serve the mount need it.
    """
    inside = os.path.realpath(directory).rstrip("/") + "/"
    ours = (*_LIBRARIES, sys.prefix, sys.base_prefix, *sys.path)
    return any(f"{os.path.realpath(path)}/".startswith(inside) for path in ours)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Block signals until there is a mount, and a supervisor that unmounts it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _mount_and_serve(
    directory: str,
    make_mount: Callable[[], FuseMount],
    options: MountOptions,
    transport: Transport,
    live: Callable[[], None],
) -> Outcome:
    writable = [path for path in (options.union.upper, options.union.work) if path is not None]
    for path in writable:
        await_predecessor(path)
    # With it what users write would go beyond their quotas, and into the blocks that a disk keeps
    # for others.  Source: fs/quota/dquot.c:ignore_hardlimit(), fs/ext4/balloc.c:
    # ext4_has_free_clusters(); fs/overlayfs/super.c:ovl_fill_super() gives it up as well.
    give_up(CAP_SYS_RESOURCE)
    try:
        fs = open_union(options.union, background=_in_background)
    except OSError as error:
        raise ConfigError(f"the layers cannot be opened: {error_text(error)}") from None
    try:
        listener = _listen(options.control)
        mount = make_mount()
    except BaseException:
        fs.close()
        raise
    log.info("mounted on %s", mount.point)

    def now_live() -> None:
        live()
        fs.warn_of_live_uppers()

    try:
        healthy = _serve_mounted(fs, mount, transport, now_live, listener, options.sched)
    except MountError:
        fs.close()
        raise
    except Exception:
        log.exception("nothing serves %s any more", mount.point)
        with suppress(MountError):
            mount.unmount()
        fs.close()
        raise
    finally:
        if options.control is not None:
            with suppress(FileNotFoundError):
                os.unlink(options.control)
    with announced_closing(writable):
        try:
            fs.close()
        except Exception:
            log.exception("%s did not close cleanly", mount.point)
            return Outcome(SYSTEM)
    if not healthy:
        return Outcome(
            BUG, f"a bug in PyUnion: nothing serves {directory}; the log has the details"
        )
    log.info("unmounted from %s", mount.point)
    return Outcome(OK)


def _in_background(work: Callable[[], None]) -> None:
    """Do `work` in a thread that may run on every CPU."""

    def run() -> None:
        with suppress(OSError):
            # The thread that starts it may be pinned to one.
            os.sched_setaffinity(0, os.sched_getaffinity(os.getpid()))
        work()

    threading.Thread(target=run, name="read-ahead", daemon=True).start()


def _serve_mounted(
    fs: Filesystem,
    mount: FuseMount,
    transport: Transport,
    live: Callable[[], None],
    listener: socket.socket | None,
    sched: str,
) -> bool:
    """Serve to the end of the connection; return whether it ended well."""
    try:
        running = transport.begin(fs, mount.fd)
    except MountError:
        _undo(mount)
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENODEV:
            raise MountError(f"{mount.point} was unmounted before it was served") from None
        log.exception("the transport failed; %s was never live", mount.point)
        _undo(mount)
        return False
    control = _Control(fs, mount, listener)
    try:
        if running is not None:
            mount.read_ahead()
            return attend(running, SignalHandler(fs, mount), control, live, sched)
        from mount_tools.daemon.supervise import supervise

        _spare_the_inodes()

        def ready(notifier: Notifier) -> None:
            control.begin(notifier)
            live()

        return supervise(fs, mount, partial(transport.carry, fs, mount.fd), ready)
    finally:
        control.end()


def _undo(mount: FuseMount) -> None:
    """Unmount what is not served; one that was adopted can only be unmounted from outside."""
    try:
        mount.unmount()
    except MountError as error:
        log.error("%s is not served, and cannot be unmounted: %s", mount.point, error)


class _Control:
    """The control socket of a mount, if it has one."""

    def __init__(self, fs: Filesystem, mount: FuseMount, listener: socket.socket | None) -> None:
        self._fs = fs
        self._point = mount.point
        self._listener = listener
        self._server: ControlServer | None = None

    def begin(self, notifier: Notifier) -> None:
        """Serve it; without a thread for that, the mount goes on without it."""
        if self._listener is None:
            return
        from mount_tools.daemon.control_server import ControlServer

        try:
            self._server = ControlServer(self._listener, partial(self._answers, notifier))
        except RuntimeError as error:
            log.error("the control socket of %s is not served: %s", self._point, error)

    def _answers(self, notifier: Notifier) -> Answer:
        from mount_tools.daemon.control import Control

        return Control(self._fs, self._point, notifier).answer

    def end(self) -> None:
        if self._server is not None:
            self._server.close()
        elif self._listener is not None:
            self._listener.close()


def attend(
    running: Running,
    handler: SignalHandler,
    control: _Control,
    live: Callable[[], None],
    sched: str,
) -> bool:
    """Serve to the end without a supervisor; nothing more can fail after `live()`."""
    try:
        attendant = Attendant(running) if takes_signals() else None
    except RuntimeError as error:
        handler.unmount()
        running.join()
        raise MountError(f"no thread can be started: {error}") from None
    try:
        control.begin(running.notifier)
        try:
            live()
        except BrokenPipeError:
            handler.undo()
    except BaseException:
        if attendant is not None:
            attendant.leave()
        raise
    # Not earlier: on a busy machine an idle thread waits longer until it begins to run.
    if sched == "idle" or (sched == "auto" and idle_is_free()):
        if sched == "auto" and idle_can_be_left():
            running.leave_idle()
        become_idle()
        log.info("SCHED_IDLE, so that clients run on when they are answered")
    _spare_the_inodes()
    return joined(running) if attendant is None else attendant.run(handler)


def _spare_the_inodes() -> None:
    """Keep the garbage collector from scanning every inode again and again.

    No request leaves a cycle behind, and inodes are freed with their last reference.  With
    a few 100,000 of them, each full collection would stop every request for a tenth of a
    second, and all collections together take a tenth of the time of a walk.
    """
    gc.freeze()
    gc.set_threshold(10_000, 100)
    gc.enable()


def _listen(path: str | None) -> socket.socket | None:
    """Return the listening control socket at `path`, or None without a path."""
    if path is None:
        return None
    from mount_tools.daemon.control_socket import listen

    try:
        return listen(path)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"control={path} belongs to another live mount; choose another path"
            ) from None
        raise ConfigError(f"control={path} cannot be created: {error.strerror}") from None
