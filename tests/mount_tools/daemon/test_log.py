"""The log goes where somebody can read it, whatever becomes of stdio."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from mount_tools.daemon import log
from unionfs.errors import ConfigError
from unionfs.light_logging import Logger, send_to

LOG = Logger("unionfs")
SetUp = Callable[..., None]


@pytest.fixture
def set_up() -> Iterator[SetUp]:
    with ExitStack() as logs:
        logs.callback(send_to, None)

        def call(*, foreground: bool = False, debug: bool = False, file: str | None = None) -> None:
            logs.enter_context(closing(log.set_up(foreground=foreground, debug=debug, file=file)))

        yield call


def test_stderr_in_the_foreground(capfd: pytest.CaptureFixture[str], set_up: SetUp) -> None:
    set_up(foreground=True)
    LOG.info("hello")
    LOG.debug("too much")
    err = capfd.readouterr().err
    assert err.startswith("mount.pyunion[")
    assert err.endswith("INFO unionfs: hello\n")


def test_a_file(tmp_path: Path, set_up: SetUp) -> None:
    file = tmp_path / "log"
    file.write_text("before\n")
    set_up(debug=True, file=str(file))
    LOG.debug("much")
    before, line = file.read_text().splitlines()
    assert before == "before"
    assert line.endswith("DEBUG unionfs: much")


def test_a_file_that_cannot_be(tmp_path: Path, set_up: SetUp) -> None:
    with pytest.raises(ConfigError, match="cannot be written: No such file"):
        set_up(file=str(tmp_path / "no" / "log"))


def test_syslog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, set_up: SetUp) -> None:
    path = str(tmp_path / "dev-log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        listener.settimeout(10)
        monkeypatch.setattr(log, "SYSLOG", path)
        set_up()
        LOG.error("it broke")
        heard = listener.recv(1000)
    assert b"mount.pyunion[" in heard
    assert b"ERROR unionfs: it broke" in heard


def test_a_file_of_its_own_without_syslog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, set_up: SetUp
) -> None:
    monkeypatch.setattr(log, "SYSLOG", str(tmp_path / "absent"))
    monkeypatch.setattr(log, "own_file", lambda: str(tmp_path / "own.log"))
    set_up()
    LOG.info("mounted and serving")
    assert not (tmp_path / "own.log").exists()
    LOG.warning("not quite")
    assert "WARNING unionfs: not quite" in (tmp_path / "own.log").read_text()


def test_the_file_of_its_own_is_not_one_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, set_up: SetUp
) -> None:
    trap = tmp_path / "own.log"
    trap.symlink_to(tmp_path / "victim")
    monkeypatch.setattr(log, "SYSLOG", str(tmp_path / "absent"))
    monkeypatch.setattr(log, "own_file", lambda: str(trap))
    set_up()
    LOG.warning("written through a link")
    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize("own", [False, True])
def test_a_file_is_created_for_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool, set_up: SetUp
) -> None:
    """A daemon has umask 0."""
    file = tmp_path / "log"
    before = os.umask(0)
    try:
        monkeypatch.setattr(log, "SYSLOG", str(tmp_path / "absent"))
        monkeypatch.setattr(log, "own_file", lambda: str(file))
        set_up(file=None if own else str(file))
        LOG.error("it broke")
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "it broke" in file.read_text()


def test_a_link_or_a_fifo_is_refused(tmp_path: Path, set_up: SetUp) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="is a symbolic link"):
        set_up(file=str(tmp_path / "link"))
    with pytest.raises(ConfigError, match="cannot be written"):
        set_up(file=str(tmp_path / "fifo"))
    assert not (tmp_path / "victim").exists()


def test_a_syslog_daemon_that_does_not_read_blocks_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, set_up: SetUp
) -> None:
    path = str(tmp_path / "dev-log")
    monkeypatch.setattr(log, "SYSLOG", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        set_up()
        for number in range(5000):
            LOG.error("record %d", number)
        assert b"record 0" in listener.recv(1000)


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_syslog_daemon_that_starts_again_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: int, set_up: SetUp
) -> None:
    path = tmp_path / "dev-log"
    monkeypatch.setattr(log, "SYSLOG", str(path))
    path.touch()
    set_up()
    for turn in ("first", "second"):
        path.unlink()
        with socket.socket(socket.AF_UNIX, kind) as listener:
            listener.bind(str(path))
            listener.settimeout(10)
            if kind == socket.SOCK_STREAM:
                listener.listen()
            # A stream notices only with the second record that its end has gone.
            LOG.error("%s", turn)
            LOG.error("%s", turn)
            heard = listener if kind == socket.SOCK_DGRAM else listener.accept()[0]
            with heard:
                assert turn.encode() in heard.recv(1000)


def test_a_relative_directory_for_it_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be in the working directory of the process that mounts."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", "run")
    monkeypatch.setattr(os, "access", lambda path, mode: path != "/run")
    found = log.own_file()
    assert found is not None and found.startswith("/tmp/")
