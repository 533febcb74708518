"""Signs of life: what is said of work that goes on, that hangs, and of a disk that does."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

from layerstore.containers import control_client
from layerstore.containers.control_client import freeze
from layerstore.containers.control_protocol import Sign, decode_sign
from layerstore.errors import Busy
from mount_tools.daemon import signs_of_life
from mount_tools.daemon.control import Control
from mount_tools.daemon.control_server import ControlServer
from mount_tools.daemon.control_socket import listen
from mount_tools.daemon.signs_of_life import SignsOfLife
from tests.helpers.mounts import DEADLINE, mounted_union, require_root, wait_until
from tests.helpers.small_disks import small_disk
from unionfs.types import Frozen

EVERY = 0.02
LONG_MS = 300


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signs_of_life, "EVERY", EVERY)


class Client:
    """What a client hears."""

    def __init__(self) -> None:
        self.heard: list[Sign] = []

    def say(self, line: bytes) -> None:
        sign = decode_sign(line)
        assert sign is not None
        self.heard.append(sign)


def signs_of(work: Callable[[Client], object], upper: Path) -> Client:
    client = Client()
    with SignsOfLife(lambda: os.fsencode(upper)).given(client.say):
        work(client)
    return client


def test_work_that_goes_on_is_never_idle_for_long(tmp_path: Path) -> None:
    def work(client: Client) -> None:
        end = time.monotonic() + 3 * LONG_MS / 1000
        while time.monotonic() < end:
            os.stat(tmp_path)

    heard = signs_of(work, tmp_path).heard
    assert len(heard) > 3
    assert max(sign.idle_ms for sign in heard) < 2 * LONG_MS


def test_a_lock_that_nobody_releases_is_a_hung_request(tmp_path: Path) -> None:
    lock = threading.Lock()

    def work(client: Client) -> None:
        def release() -> None:
            wait_until(lambda: bool(client.heard) and client.heard[-1].idle_ms > LONG_MS, "a sign")
            lock.release()

        lock.acquire()
        other = threading.Thread(target=release)
        other.start()
        lock.acquire()
        other.join()

    assert signs_of(work, tmp_path).heard[-1].waits_for == "another request"


def test_who_waits_for_work_that_goes_on_goes_on(tmp_path: Path) -> None:
    signs, first, second, over = (
        SignsOfLife(lambda: os.fsencode(tmp_path)),
        Client(),
        Client(),
        threading.Event(),
    )

    def work() -> None:
        with signs.given(first.say):
            while not over.is_set():
                os.stat(tmp_path)

    def wait() -> None:
        with signs.given(second.say):
            over.wait(DEADLINE)

    threads = [threading.Thread(target=one) for one in (work, wait)]
    for thread in threads:
        thread.start()
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() > begun + 3 * LONG_MS / 1000, "some signs")
    over.set()
    for thread in threads:
        thread.join()
    assert len(second.heard) > 3
    assert max(sign.idle_ms for sign in second.heard) < 2 * LONG_MS


def test_a_client_that_has_gone_costs_only_its_signs(tmp_path: Path) -> None:
    say = Mock(side_effect=BrokenPipeError)
    before = threading.active_count()
    with SignsOfLife(lambda: os.fsencode(tmp_path)).given(say):
        wait_until(lambda: say.called, "the first sign")
        wait_until(lambda: threading.active_count() == before, "the end of the signs")
    assert say.call_count == 1


def test_work_without_a_thread_for_signs_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(threading.Thread, "start", Mock(side_effect=RuntimeError("no thread")))
    assert signs_of(lambda _client: None, tmp_path).heard == []
    assert "no thread" in caplog.text


def test_nothing_is_said_after_the_end(tmp_path: Path) -> None:
    clients = [signs_of(lambda _client: None, tmp_path) for _ in range(50)]
    counts = [len(client.heard) for client in clients]
    assert max(counts) <= 1
    wait_until(lambda: "signs" not in {one.name for one in threading.enumerate()}, "their threads")
    assert [len(client.heard) for client in clients] == counts


@pytest.mark.parametrize("hangs", [True, False])
def test_the_client_of_a_freeze(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    """A client that waits for a second at most, of a freeze that takes two, or for ever."""
    monkeypatch.setattr(control_client, "QUIET_SECONDS", 1.0)
    given_up = threading.Event()

    def do(upper_to: bytes, ahead: bool) -> Frozen:
        if hangs:
            given_up.wait(DEADLINE)
        end = time.monotonic() + 2
        while not hangs and time.monotonic() < end:
            os.stat(tmp_path)
        return Frozen(1, (), 0)

    fs = Mock(freeze=do, getxattr=lambda *_: os.fsencode(tmp_path))
    control = Control(fs, "/", Mock())
    server = ControlServer(listen(os.fspath(tmp_path / "control")), lambda: control.answer)
    try:
        if hangs:
            with pytest.raises(Busy, match=f"serves it, {os.getpid()}, has waited for another"):
                freeze(tmp_path / "control", tmp_path / "to")
        else:
            assert freeze(tmp_path / "control", tmp_path / "to").pause_ns == 1
    finally:
        given_up.set()
        server.close()


def test_a_disk_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_root()
    monkeypatch.setattr(control_client, "QUIET_SECONDS", 3.0)
    with small_disk(tmp_path, "ext4", 16 << 20) as disk:
        for name in ("upper", "work", "lower"):
            (disk / name).mkdir()
        control = tmp_path / "control"
        layers = [disk / "lower"], disk / "upper", disk / "work"
        with mounted_union(*layers, [f"control={control}"]) as union:
            (union.root / "file").write_text("text")
            subprocess.run(["fsfreeze", "-f", disk], check=True)
            try:
                with pytest.raises(Busy, match="waited for a disk"):
                    freeze(control, disk / "to")
            finally:
                subprocess.run(["fsfreeze", "-u", disk], check=True)
            wait_until((disk / "to/file").exists, "the freeze, which is still done")
            assert (union.root / "file").read_text() == "text"
