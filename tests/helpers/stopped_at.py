"""`pyunion`, one of whose processes is killed, or fails, at a given step of a container's start.

    python -m tests.helpers.stopped_at STEP {killed|raising} WORDS OF PYUNION...

STEP is `send:Running`, `sent:Running`, `expect:Running` or `expected:Running` (before and
after the message goes, and before and after it comes), with any message of the handshake;
`execve`; `live`, when the root is served; or `report:keeper`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn
from unittest.mock import patch

from mount_tools import pyunion
from mount_tools.container import handshake, program, root_serving
from mount_tools.daemon import serve as daemon_serve
from mount_tools.daemon.report import Reporter
from mount_tools.mount.mount_options import MountOptions
from unionfs.syscalls.execveat import execveat


def main() -> int:
    step, manner, *words = sys.argv[1:]

    def reach(now: str) -> None:
        if now != step:
            return
        if manner == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
            os._exit(137)  # process 1 of a namespace cannot kill itself
        raise ZeroDivisionError(f"at {step}")

    serve = daemon_serve.serve

    def serving(path: str, options: MountOptions, live: Callable[[], None], **more: Any) -> object:
        def now() -> None:
            reach("live")
            live()

        return serve(path, options, now, **more)

    send, expect = handshake.Channel.send, handshake.Channel.expect
    live = Reporter.live

    def sending(channel: handshake.Channel, message: handshake.Message) -> None:
        name = type(message).__name__
        reach(f"send:{name}")
        send(channel, message)
        reach(f"sent:{name}")

    def expecting(channel: handshake.Channel, kind: type[Any]) -> object:
        reach(f"expect:{kind.__name__}")
        message = expect(channel, kind)
        reach(f"expected:{kind.__name__}")
        return message

    def reporting(reporter: Reporter) -> None:
        reach("report:keeper")
        live(reporter)

    def executing(*arguments: Any) -> NoReturn:
        reach("execve")
        execveat(*arguments)

    for owner, name, instead in (
        (handshake.Channel, "send", sending),
        (handshake.Channel, "expect", expecting),
        (Reporter, "live", reporting),
        (root_serving, "serve", serving),
        (program, "execveat", executing),
    ):
        patch.object(owner, name, instead).start()
    return pyunion.main(words)


if __name__ == "__main__":
    sys.exit(main())
