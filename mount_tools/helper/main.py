"""`mount.pyunion`: mount a union, by hand or as the helper of mount(8).

Decided here and only here: which exit status of mount(8) a failure has, and that its
message is one line on stderr.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache

from mount_tools.daemon.detach import (
    BUG,
    FAILED,
    INTERRUPTED,
    OK,
    SYSTEM,
    USAGE,
    Outcome,
    Serve,
    keep_standard_fds,
    outcome_of,
    run_detached,
)
from mount_tools.daemon.report import last_message
from mount_tools.helper.command_line import FUSE_OVERLAYFS, Call, parse_call
from mount_tools.interrupts import Interruptible
from mount_tools.leave import leave
from mount_tools.mount.mount_options import MountOptions
from mount_tools.mount.option_grammar import OptionError, words
from mount_tools.mount.options import LAYER_OPTIONS, parse_options
from mount_tools.mount.point import check_layers_apart, checked_mount_point, inherited_fd
from mount_tools.mount.remount import is_remount, remount
from unionfs import UnionConfig
from unionfs.errors import ConfigError, MountError, error_text
from unionfs.light_logging import DEBUG, Logger
from unionfs.light_typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

    from mount_tools.helper.warm_client import Here

PROGRAM = "mount.pyunion"

log = Logger(__name__)


def main(arguments: Sequence[str] | None = None, *, at: Here | None = None) -> int:
    """Run the command; return its exit status, or end with it if `arguments` is None.

    With `at` the daemon of a mount starts a warm helper there.
    """
    if arguments is None:
        gc.disable()  # until the mount is live: `serve` enables it
    given = sys.argv[1:] if arguments is None else arguments
    program = _program(sys.argv[0])
    outcome = _guarded(lambda: _run(given, program, at))
    _print_message(program, outcome)
    if arguments is None:
        leave(outcome.status)
    return outcome.status


def end_with(said: bytes | None) -> int:
    """End the command as a daemon of the warm helper reports; None if it was interrupted."""
    outcome = Outcome(INTERRUPTED, "interrupted")
    if said is not None:
        outcome = outcome_of(last_message(said))
    _print_message(_program(sys.argv[0]), outcome)
    leave(outcome.status)


def _program(path: str) -> str:
    return FUSE_OVERLAYFS if os.path.basename(path) == FUSE_OVERLAYFS else PROGRAM


def _print_message(program: str, outcome: Outcome) -> None:
    if outcome.message:
        # One line, whatever the message contains: mount(8) and container engines print it.
        _print(f"{program}: {' '.join(outcome.message.split())}\n", sys.stderr)


def _print(text: str, stream: TextIO | None) -> Outcome:
    """Write `text`, with any characters in it, to a stream that may be closed."""
    try:
        print(text.encode(errors="backslashreplace").decode(), end="", file=stream, flush=True)
    except BrokenPipeError:
        outcome = Outcome(SYSTEM)
    except OSError as error:
        outcome = Outcome(SYSTEM, f"the output cannot be written: {error.strerror}")
    else:
        return Outcome(OK)
    if stream is sys.stdout:
        sys.stdout = None  # the interpreter must not fail to flush it when it ends
    else:
        sys.stderr = None
    return outcome


def _guarded(attempt: Callable[[], Outcome]) -> Outcome:
    """Return the outcome of `attempt()`; an exception becomes an outcome too."""
    try:
        with Interruptible():
            return attempt()
    except OptionError as error:
        return Outcome(USAGE, str(error))
    except (ConfigError, MountError) as error:
        return Outcome(FAILED, str(error))
    except OSError as error:
        return Outcome(SYSTEM, error_text(error))
    except MemoryError:
        return Outcome(SYSTEM, "out of memory")
    except KeyboardInterrupt:
        return Outcome(INTERRUPTED, "interrupted")
    except Exception as error:
        log.log(DEBUG, "a bug in PyUnion", exc_info=error)
        what = f"{type(error).__name__}: {error}"
        return Outcome(
            BUG,
            f"a bug in PyUnion ({what}); please report it with the output of -o foreground,debug",
        )


def _run(arguments: Sequence[str], program: str, at: Here | None) -> Outcome:
    keep_standard_fds()
    call = parse_call(arguments, program=program)
    if call.help:
        return _help()
    if call.version:
        return _version(program)
    if is_remount(call.options):
        remount(_absolute(call.directory), call.options)
        return Outcome(OK)
    image = None if program == FUSE_OVERLAYFS else _image_of(call)
    options = _options_of(call, of_image=image is not None)
    directory = _absolute(call.directory)
    if call.fake:
        if inherited_fd(directory) is None:
            check_layers_apart(options.union, checked_mount_point(directory))
        return Outcome(OK)

    if image is not None:
        return _mount_image(image, call, directory, options)

    def attempt(live: Callable[[], None]) -> Outcome:
        return _guarded(lambda: _serve(directory, options, live, call.namespace, at))

    if options.foreground:
        return attempt(lambda: None)
    outcome = run_detached(attempt, keep=inherited_fd(directory))
    if outcome.status == OK and call.verbose:
        _print(f"{PROGRAM}: {options.fsname} mounted on {call.directory}.\n", sys.stdout)
    return outcome


def ready(program: str, arguments: list[str]) -> Serve | None:
    """Return what the command line of an engine serves; see `warm_server.Ready`."""
    try:
        call = parse_call(arguments, program=_program(program))
        if not call.engine or is_remount(call.options):
            return None
        options = _options_of(call, of_image=False)
    except OptionError:
        return None  # the command will say so
    directory = _absolute(call.directory)
    if options.foreground or inherited_fd(directory) is not None:
        return None
    return lambda live: _guarded(lambda: _serve(directory, options, live, None))


def _image_of(call: Call) -> str | None:
    """Return SPEC if it names an image: if no option names a layer."""
    named = {word.name for text in call.options for word in words(text)}
    return None if named & LAYER_OPTIONS else call.spec or None


def _mount_image(image: str, call: Call, directory: str, options: MountOptions) -> Outcome:
    # Imported only here: a mount of layers by their paths needs no store.
    from mount_tools.container.image_mount import opened_image

    directory = checked_mount_point(directory)
    with opened_image(image, directory, options) as serve:

        def attempt(live: Callable[[], None]) -> Outcome:
            return _guarded(lambda: serve(live, call.namespace))

        if options.foreground:
            return attempt(lambda: None)
        return run_detached(attempt)


def _options_of(call: Call, *, of_image: bool) -> MountOptions:
    options = parse_options(
        call.options,
        privileged=os.geteuid() == 0,
        sloppy=call.sloppy,
        of_image=of_image,
        engine=call.engine,
    )
    return options._replace(
        union=_with_absolute_paths(options.union),
        fsname=options.fsname or call.spec or "pyunion",
        foreground=options.foreground or call.foreground,
        debug=options.debug or call.debug,
        log=None if options.log is None else _absolute(options.log),
        control=None if options.control is None else _absolute(options.control),
    )


def _absolute(path: str) -> str:
    """Return `path` made absolute: the working directory of the daemon is /."""
    return path if path.startswith("/") else os.path.join(os.getcwd(), path)


def _with_absolute_paths(config: UnionConfig) -> UnionConfig:
    here = cache(os.getcwdb)

    def absolute(path: bytes) -> bytes:
        return path if path.startswith(b"/") else os.path.join(here(), path)

    return config._replace(
        lowers=tuple(map(absolute, config.lowers)),
        data=tuple(map(absolute, config.data)),
        upper=None if config.upper is None else absolute(config.upper),
        work=None if config.work is None else absolute(config.work),
    )


def _serve(
    directory: str,
    options: MountOptions,
    live: Callable[[], None],
    namespace: str | None,
    at: Here | None = None,
) -> Outcome:
    # Imported after the fork: these imports take longer than everything before it.
    from mount_tools.daemon import log as log_to
    from mount_tools.daemon.serve import serve
    from mount_tools.daemon.transport import load_modules

    if at is not None and not options.foreground:
        from mount_tools.helper import warm_server

        load_modules()
        warm_server.begin(at, ready)
    log_to.set_up(foreground=options.foreground, debug=options.debug, file=options.log)
    if options.ignored:
        log.warning("%s: options without effect here: %s", directory, ", ".join(options.ignored))
    return serve(directory, options, live, namespace)


def _help() -> Outcome:
    from mount_tools.helper.help_text import usage

    return _print(usage(), sys.stdout)


def _version(program: str) -> Outcome:
    """Print the version; engines show the first line (`podman info`)."""
    from mount_tools.version import own_version

    version = own_version()
    as_engines_read = f"{FUSE_OVERLAYFS}: version {version} (PyUnion)\n"
    plain = f"{PROGRAM} {version}\n"
    return _print(as_engines_read if program == FUSE_OVERLAYFS else plain, sys.stdout)


if __name__ == "__main__":
    sys.exit(main())
