"""The keeper: viewers that come, go and are slow, and what it writes to the log."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from layerstore.containers.container_log import LogReader
from mount_tools.container.attach_messages import (
    SOCKET,
    Connection,
    Ended,
    Gone,
    Input,
    InputEnd,
    Message,
    Output,
    Resize,
    Signal,
    Taken,
    Watch,
    connect,
)
from tests.helpers.mounts import DEADLINE, helper_environment, require_root, wait_until
from tests.helpers.processes import ending
from tests.helpers.strangers import ask_as_a_stranger


@contextmanager
def kept(directory: Path, script: str, kind: str = "pipes") -> Iterator[subprocess.Popen[bytes]]:
    """Run `script` with a keeper, whose first viewer is the process that is yielded."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.kept", kind, script, "log", str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=helper_environment(),
    )
    with ending(process):
        yield process


def viewer(directory: Path, *, output: bool = True) -> Connection:
    """Return a connection to the keeper in `directory`, once it listens."""
    found: list[Connection] = []

    def connected() -> bool:
        connection = connect(directory, Watch(output))
        found.extend([] if connection is None else [connection])
        return connection is not None

    wait_until(connected, "the keeper to listen")
    return found[0]


def next_from(connection: Connection) -> Message:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    while True:
        assert poll.poll(30_000)
        message = connection.receive()
        if message is not None:
            return message


def text_until_end(connection: Connection) -> tuple[bytes, int]:
    text = b""
    while True:
        match next_from(connection):
            case Output(_, data):
                text += data
            case Ended(status):
                connection.close()
                return text, status


def logged(directory: Path) -> str:
    with LogReader(directory) as reader:
        return "".join(entry.text for entry in reader.entries())


def test_the_command_outlives_its_first_viewer_and_another_sees_the_rest(tmp_path: Path) -> None:
    script = "echo one; read line; echo two; exit 7"
    with kept(tmp_path, f"trap '' HUP; {script}") as first:
        assert first.stdout is not None and first.stdin is not None
        assert first.stdout.readline() == b"one\n"
        second = viewer(tmp_path)
        first.send_signal(signal.SIGKILL)
        first.wait(DEADLINE)
        # The end of another viewer's stdin is not the command's.
        second.send(InputEnd())
        second.send(Input(b"go\n"))
        assert text_until_end(second) == (b"two\n", 7)
    assert logged(tmp_path) == "one\ntwo\n"


def test_a_viewer_that_reads_nothing_slows_the_command_and_one_that_goes_does_not(
    tmp_path: Path,
) -> None:
    # Long lines: the log takes longer than the rest if there are many.
    script = "echo up; read line; yes $(printf %0999d 0) | head -c 5000000 | tee /dev/null; exit 3"
    with kept(tmp_path, script) as first:
        assert first.stdin is not None and first.stdout is not None
        assert first.stdout.readline() == b"up\n"
        slow = viewer(tmp_path)
        first.stdin.write(b"go\n")
        first.stdin.flush()
        assert isinstance(next_from(slow), Output)
        slow.close()
        rest = first.stdout.read()
        assert len(rest) == 5000000
        assert first.wait(DEADLINE) == 3


def test_a_follower_of_the_log_gets_its_lines_and_the_end(tmp_path: Path) -> None:
    with kept(tmp_path, "read line; echo said; exit 2") as first:
        assert first.stdin is not None
        follower = viewer(tmp_path, output=False)
        first.stdin.write(b"\n")
        first.stdin.flush()
        kinds: list[str] = []
        while not kinds or kinds[-1] != "Ended":
            kinds.append(type(next_from(follower)).__name__)
        follower.close()
        assert set(kinds) <= {"Logged", "Ended"}
        assert logged(tmp_path) == "said\n"


def test_a_viewer_sends_signals(tmp_path: Path) -> None:
    with kept(tmp_path, "trap 'exit 9' USR1; echo up; while :; do sleep 0.02; done") as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"up\n"
        second = viewer(tmp_path)
        second.send(Signal(signal.SIGUSR1))
        assert text_until_end(second)[1] == 9


def test_there_is_nobody_to_view_after_the_end(tmp_path: Path) -> None:
    with kept(tmp_path, "exit 0") as first:
        assert first.wait(DEADLINE) == 0
    assert connect(tmp_path, Watch(output=True)) is None


def test_rubbish_from_a_viewer_is_its_own_end(tmp_path: Path) -> None:
    with kept(tmp_path, "echo up; read line; exit 4") as first:
        assert first.stdin is not None and first.stdout is not None
        assert first.stdout.readline() == b"up\n"
        bad = viewer(tmp_path)
        os.write(bad.fileno(), b"\xff" * 20)
        try:
            while True:
                next_from(bad)
        except Gone:
            bad.close()
        first.stdin.write(b"\n")
        first.stdin.flush()
        assert first.wait(DEADLINE) == 4


def test_nonsense_costs_only_the_viewer_that_sends_it(tmp_path: Path) -> None:
    """A size that no terminal has ended the keeper, and with it the command."""
    with kept(tmp_path, "echo one; read line; echo $line; exit 7", "terminal") as first:
        assert first.stdout is not None and first.stdout.readline() == b"one\r\n"
        second = viewer(tmp_path)
        lasting = viewer(tmp_path)
        for number in (-(1 << 31), -1, 1 << 30):
            for message in (Resize(number, number), Signal(number or 99), Ended(number)):
                lasting.send(message)
        for data in (b"", b"x", b"\xff" * 9, b"\x0a" + bytes(8)):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
                other.connect(os.fspath(tmp_path / SOCKET))
                with suppress(OSError):
                    socket.send_fds(other, [data], [0, 1, 2])
        lasting.send(Input(b""))
        assert any(isinstance(next_from(lasting), Taken) for _ in range(100)), "all was handled"
        lasting.close()
        second.send(Input(b"go\n"))
        text, status = text_until_end(second)
    assert status == 7 and text.endswith(b"go\r\n")


def test_a_process_of_a_container_types_nothing(tmp_path: Path) -> None:
    """A container in which the store is bound reaches the keepers of all others."""
    require_root()
    with kept(tmp_path, "echo one; read line; echo $line") as first:
        assert first.stdout is not None and first.stdout.readline() == b"one\n"
        typed = b"\x03" + bytes(8) + b"theirs\n"
        answer = ask_as_a_stranger(tmp_path / SOCKET, socket.SOCK_SEQPACKET, typed)
        assert answer == b""
        second = viewer(tmp_path)
        second.send(Input(b"ours\n"))
        assert text_until_end(second) == (b"ours\n", 0)


def test_viewers_wait_while_there_are_no_descriptors(tmp_path: Path) -> None:
    """The files that a container has open are its keeper's, who serves its root."""
    with kept(tmp_path, "cat; exit 3") as process:
        first = viewer(tmp_path, output=False)
        keeper = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        before = resource.prlimit(keeper, resource.RLIMIT_NOFILE)
        first.send(Input(b""))
        assert next_from(first) == Taken()
        opened = set(map(int, os.listdir(f"/proc/{keeper}/fd")))
        free = min(set(range(len(opened) + 1)) - opened)
        resource.prlimit(keeper, resource.RLIMIT_NOFILE, (free, before[1]))
        second = viewer(tmp_path)  # connected, but not accepted
        first.send(Input(b""))
        assert next_from(first) == Taken()
        resource.prlimit(keeper, resource.RLIMIT_NOFILE, before)
        second.send(Input(b"said"))
        assert next_from(second) == Taken()
        assert process.stdin is not None
        process.stdin.close()
        assert text_until_end(second) == (b"said", 3)
        first.close()
