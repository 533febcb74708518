"""The log goes where somebody can read it, whatever becomes of stdio."""

from __future__ import annotations

import logging
import socket
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
    monkeypatch.setattr(log, "_own_file", lambda: tmp_path / "own.log")
    log.set_up(foreground=False, debug=False, file=None)
    logging.getLogger("unionfs").info("all is well")
    assert not (tmp_path / "own.log").exists()
    logging.getLogger("unionfs").warning("not quite")
    assert "WARNING unionfs: not quite" in (tmp_path / "own.log").read_text()


def test_the_file_of_its_own_is_not_one_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "own.log"
    trap.symlink_to(tmp_path / "victim")
    monkeypatch.setattr(log, "SYSLOG", str(tmp_path / "absent"))
    monkeypatch.setattr(log, "_own_file", lambda: trap)
    log.set_up(foreground=False, debug=False, file=None)
    logging.getLogger("unionfs").warning("written through a link")
    assert not (tmp_path / "victim").exists()
