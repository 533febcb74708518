"""The stdin and the exit status of the commands that run something.

Decided here and only here: which stdin a container's command gets, and the exit status: that
of the command, or 125, 126 or 127 if it cannot be run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress

from layerstore.containers.container import Container
from layerstore.errors import Conflict, NotFound, StoreError
from layerstore.store import Store
from mount_tools.cli.errors import Exit, WrongWords
from mount_tools.cli.invocation import complain
from mount_tools.container.handshake import REFUSED, CannotStart
from mount_tools.container.viewer import OutputLost, Unanswered
from unionfs.errors import error_text


def take_stdin(interactive: bool, tty: bool) -> None:
    """Keep stdin for an `interactive` command; make it empty for any other.

    So a shell loop can read lines and run a container for each: the container does not read
    the lines, as with docker.  Raises WrongWords if `tty` is asked for and stdin is no terminal.
    """
    if interactive and tty and not sys.stdin.isatty():
        raise WrongWords("the input device is not a TTY", 1)
    if not interactive:
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)


def discard(store: Store, container: Container) -> None:
    """Remove a container of `--rm` that was not started, unless it has been removed already.

    If it runs, and this command only failed to show it, its keeper removes it later.
    """
    from mount_tools.container.cgroup import release

    with suppress(NotFound, Conflict):
        container = store.containers.get(container.id)
        if not container.running:
            release(container.directory)
            store.containers.remove(container)


def exit_with(action: Callable[[], int]) -> None:
    """Exit with the status that `action` returns, or with 125, 126 or 127 if it cannot run."""
    try:
        status = action()
    except (CannotStart, OutputLost, Unanswered) as error:
        complain(str(error))
        status = error.status
    except StoreError as error:
        complain(str(error))
        status = REFUSED
    except BrokenPipeError:
        raise  # the reader of stdout is gone
    except OSError as error:
        complain(error_text(error))
        status = REFUSED
    raise Exit(status)
