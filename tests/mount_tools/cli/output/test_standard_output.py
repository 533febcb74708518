"""Standard output: a failure is a sentence, said once."""

from __future__ import annotations

import io
import os

import pytest

from layerstore.errors import StoreError
from mount_tools.cli.output.standard_output import archive_output, file_output, standard_output


def test_a_full_disk_is_said_once() -> None:
    with (
        open("/dev/full", "w") as full,
        pytest.raises(StoreError, match=r"^the output cannot be written: No space left on device$"),
        standard_output(full) as output,
    ):
        output.write("text\n")
        try:
            output.flush()
        finally:
            output.write("more\n")
            output.flush()


def test_a_reader_that_is_gone_stays_a_broken_pipe() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as broken:
        output = standard_output(broken)
        output.write("text\n")
        with pytest.raises(BrokenPipeError):
            output.flush()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, writer)
        os.close(null)
        output.close()


def test_any_text_is_written_as_bytes(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with open(os.dup(1), "w") as stream, standard_output(stream) as output:
        output.write("ä\udcff\n")
    assert capfdbinary.readouterr().out == "ä".encode() + b"\xff\n"


def test_a_file_has_the_name_that_the_user_gave_it() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    with (
        pytest.raises(StoreError, match=r"^a\.tar cannot be written: No space left on device$"),
        file_output(full, "a.tar") as output,
    ):
        output.write(b"x")


def test_a_closed_stdout_takes_no_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.StringIO())
    monkeypatch.setattr("sys.__stdout__", None)
    with pytest.raises(StoreError, match="stdout is closed"):
        archive_output("")
