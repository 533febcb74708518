"""The log goes where somebody can read it, whatever becomes of stdio."""

from __future__ import annotations

import logging
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from mount_tools.daemon import log
from unionfs.errors import ConfigError


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raises = root.handlers[:], root.level, logging.raiseExceptions
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raises


def test_stderr_in_the_foreground(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up(foreground=True, debug=False, file=None)
    logging.getLogger("unionfs").info("hello")
    logging.getLogger("unionfs").debug("too much")
    err = capsys.readouterr().err
    assert err.startswith("mount.pyunion[")
    assert err.endswith("INFO unionfs: hello\n")


def test_a_file(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("before\n")
    log.set_up(foreground=False, debug=True, file=str(file))
    logging.getLogger("unionfs").debug("much")
    before, line = file.read_text().splitlines()
    assert before == "before"
    assert line.endswith("DEBUG unionfs: much")


def test_a_file_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written: No such file"):
        log.set_up(foreground=False, debug=False, file=str(tmp_path / "no" / "log"))


def test_syslog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "dev-log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        listener.settimeout(10)
        monkeypatch.setattr(log, "SYSLOG", path)
        log.set_up(foreground=False, debug=False, file=None)
        logging.getLogger("unionfs").error("it broke")
        heard = listener.recv(1000)
    assert b"mount.pyunion[" in heard
    assert b"ERROR unionfs: it broke" in heard


def test_a_file_of_its_own_without_syslog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "SYSLOG", str(tmp_path / "absent"))
    monkeypatch.setattr(log, "own_file", lambda: tmp_path / "own.log")
    log.set_up(foreground=False, debug=False, file=None)
    logging.getLogger("unionfs").info("mounted and serving")
    assert not (tmp_path / "own.log").exists()
    logging.getLogger("unionfs").warning("not quite")
    assert "WARNING unionfs: not quite" in (tmp_path / "own.log").read_text()


def test_the_file_of_its_own_is_not_one_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "own.log"
    trap.symlink_to(tmp_path / "victim")
    monkeypatch.setattr(log, "SYSLOG", str(tmp_path / "absent"))
    monkeypatch.setattr(log, "own_file", lambda: trap)
    log.set_up(foreground=False, debug=False, file=None)
    logging.getLogger("unionfs").warning("written through a link")
    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize("own", [False, True])
def test_a_file_is_created_for_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    """A daemon has umask 0."""
    file = tmp_path / "log"
    before = os.umask(0)
    try:
        monkeypatch.setattr(log, "SYSLOG", str(tmp_path / "absent"))
        monkeypatch.setattr(log, "own_file", lambda: file)
        log.set_up(foreground=False, debug=False, file=None if own else str(file))
        logging.getLogger("unionfs").error("it broke")
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "it broke" in file.read_text()


def test_a_link_or_a_fifo_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="is a symbolic link"):
        log.set_up(foreground=False, debug=False, file=str(tmp_path / "link"))
    with pytest.raises(ConfigError, match="cannot be written"):
        log.set_up(foreground=False, debug=False, file=str(tmp_path / "fifo"))
    assert not (tmp_path / "victim").exists()


def test_a_syslog_daemon_that_does_not_read_blocks_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "dev-log")
    monkeypatch.setattr(log, "SYSLOG", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        log.set_up(foreground=False, debug=False, file=None)
        for number in range(5000):
            logging.getLogger("unionfs").error("record %d", number)
        assert b"record 0" in listener.recv(1000)


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_syslog_daemon_that_starts_again_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: int
) -> None:
    path = tmp_path / "dev-log"
    monkeypatch.setattr(log, "SYSLOG", str(path))
    path.touch()
    log.set_up(foreground=False, debug=False, file=None)
    for turn in ("first", "second"):
        path.unlink()
        with socket.socket(socket.AF_UNIX, kind) as listener:
            listener.bind(str(path))
            listener.settimeout(10)
            if kind == socket.SOCK_STREAM:
                listener.listen()
            # A stream notices only with the second record that its end has gone.
            logging.getLogger("unionfs").error("%s", turn)
            logging.getLogger("unionfs").error("%s", turn)
            heard = listener if kind == socket.SOCK_DGRAM else listener.accept()[0]
            with heard:
                assert turn.encode() in heard.recv(1000)
