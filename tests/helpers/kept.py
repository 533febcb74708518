"""A command of this machine with a keeper and a viewer, without a container.

    python -m tests.helpers.kept {terminal|pipes} SCRIPT [log DIRECTORY] [keys] [fail]

runs SCRIPT by sh with a keeper, shows it here, and exits as it does.
"""

from __future__ import annotations

import os
import pty
import socket
import sys
from pathlib import Path
from typing import NoReturn

from layerstore.containers.container_log import LogWriter
from mount_tools.container.attach_messages import Connection, listen, pair
from mount_tools.container.detach_keys import DEFAULT, parse_keys
from mount_tools.container.keeper import Keeper
from mount_tools.container.process import Launch
from mount_tools.container.signals import begin_afresh, held
from mount_tools.container.started import Started
from mount_tools.container.streams import of_terminal, streams_for
from mount_tools.container.viewer import OutputLost, PassedOn, Viewer
from mount_tools.daemon.after_fork import release_stdio


def main() -> int:
    kind, script, *more = sys.argv[1:]
    terminal = kind == "terminal"
    directory = Path(more[more.index("log") + 1]) if "log" in more else None
    with held():
        ours, theirs = pair()
        if os.fork() == 0:
            ours.close()
            os.setsid()
            release_stdio()
            keep(script, theirs, directory, terminal=terminal)
        theirs.close()
        keys = parse_keys(DEFAULT) if "keys" in more else b""
        with Viewer(Connection(ours), PassedOn(keys=keys), terminal=terminal) as viewer:
            if "fail" in more:
                raise SystemExit(9)
            try:
                return viewer.status(lambda: 99)
            except OutputLost as error:
                print(error, file=sys.stderr)
                return error.status


def keep(
    script: str, viewer: socket.socket | None, directory: Path | None, *, terminal: bool
) -> NoReturn:
    streams, ends = streams_for(Launch((), (), "/", "", terminal), stdin=True)
    slave = -1
    if terminal:
        master, slave = pty.openpty()
        streams = of_terminal(master)
    child = os.fork()
    if child == 0:
        begin_afresh()
        ends.take()
        if terminal:
            os.login_tty(slave)
        os.execvp("sh", ["sh", "-c", script])
    ends.close()
    keeper = Keeper(
        streams,
        first=viewer,
        log=None if directory is None else LogWriter(directory),
        listener=None if directory is None else listen(directory),
    )
    keeper.close(keeper.attend(Started(child, child)))
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
