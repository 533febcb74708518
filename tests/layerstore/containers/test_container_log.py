"""A container's log: docker's format, its bound, and a disk that is full."""

from __future__ import annotations

import json
import os
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore.containers.container_log import LONGEST, LogEntry, LogReader, LogWriter


def read(directory: Path) -> list[LogEntry]:
    with LogReader(directory) as reader:
        return list(reader.entries())


def texts(directory: Path) -> list[tuple[str, str]]:
    return [(entry.stream, entry.text) for entry in read(directory)]


def test_a_line_is_an_object_as_docker_writes_it(tmp_path: Path) -> None:
    log = LogWriter(tmp_path)
    assert log.write("stdout", b"one\ntw")
    assert not log.write("stdout", b"o")
    assert log.write("stderr", b"bad \xff byte\n")
    assert log.write("stdout", b"\r\nlast")
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "log.json").read_text().splitlines()]
    assert [sorted(line) for line in lines] == [["log", "stream", "time"]] * 4
    assert [(line["stream"], line["log"]) for line in lines] == [
        ("stdout", "one\n"),
        ("stderr", "bad \ufffd byte\n"),
        ("stdout", "two\r\n"),
        ("stdout", "last"),
    ]
    assert (tmp_path / "log.json").stat().st_mode & 0o007 == 0


@given(data=st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.text(max_size=40))))
def test_what_is_written_is_read_stream_by_stream(
    tmp_path_factory: pytest.TempPathFactory, data: list[tuple[str, str]]
) -> None:
    directory = tmp_path_factory.mktemp("log")
    log = LogWriter(directory)
    for stream, text in data:
        log.write("stdout" if stream == "stdout" else "stderr", text.encode())
    log.close()
    for stream in ("stdout", "stderr"):
        found = "".join(entry.text for entry in read(directory) if entry.stream == stream)
        assert found == "".join(text for which, text in data if which == stream)


def test_a_long_line_is_several_objects(tmp_path: Path) -> None:
    log = LogWriter(tmp_path)
    log.write("stdout", b"x" * (2 * LONGEST + 5) + b"\n")
    log.close()
    assert [len(text) for _, text in texts(tmp_path)] == [LONGEST, LONGEST, 6]


def test_the_log_is_bounded_and_a_reader_follows_it_across_files(tmp_path: Path) -> None:
    log = LogWriter(tmp_path, max_bytes=1000)
    with LogReader(tmp_path) as reader:
        seen = []
        for number in range(200):
            log.write("stdout", b"%d\n" % number)
            seen += [entry.text for entry in reader.entries()]
        assert seen == [f"{number}\n" for number in range(200)]
    log.close()
    assert sorted(os.listdir(tmp_path)) == ["log.1.json", "log.json"]
    assert all((tmp_path / name).stat().st_size <= 1000 for name in os.listdir(tmp_path))
    kept = [int(text) for _, text in texts(tmp_path)]
    assert kept == list(range(kept[0], 200)) and kept[0] > 0


def test_a_full_disk_loses_lines_and_says_how_much(tmp_path: Path) -> None:
    log = LogWriter(tmp_path)
    log.write("stdout", b"before\n")
    write = os.write

    def full(fd: int, data: bytes) -> int:
        return write(fd, data[:3])

    with patch("layerstore.containers.container_log.os.write", full):
        log.write("stdout", b"lost\n")
        log.write("stderr", b"also\n")
    log.write("stdout", b"after\n")
    log.close()
    assert texts(tmp_path) == [
        ("stdout", "before\n"),
        ("stderr", "[pyunion: 10 bytes of output are missing here: the disk is full]\n"),
        ("stdout", "after\n"),
    ]


def test_what_was_lost_is_told_without_another_line(tmp_path: Path) -> None:
    log = LogWriter(tmp_path)
    with patch("layerstore.containers.container_log.os.write", side_effect=OSError(28, "full")):
        log.write("stdout", b"lost\n")
        assert log.has_lost and not log.tell_lost()
    assert log.tell_lost() and not log.has_lost and not log.tell_lost()
    notice = ("stderr", "[pyunion: 5 bytes of output are missing here: full]\n")
    assert texts(tmp_path) == [notice]
    with patch("layerstore.containers.container_log.os.write", side_effect=OSError(28, "full")):
        log.write("stdout", b"again")
        log.write("stdout", b"\n")
    log.close()
    assert texts(tmp_path)[1:] == [("stderr", notice[1].replace("5", "6"))]


def test_a_directory_that_is_gone_stops_nothing(tmp_path: Path) -> None:
    log = LogWriter(tmp_path / "gone")
    assert log.write("stdout", b"lost\n")
    log.close()
    assert read(tmp_path / "gone") == []


def test_damaged_lines_are_left_out_and_the_next_writer_begins_a_line(tmp_path: Path) -> None:
    good = '{"log":"good\\n","stream":"stdout","time":"2026-01-31T10:00:00Z"}\n'
    bad = ["{", "[]", '{"log":1}', '{"log":"x","stream":"other","time":"2026-01-31T10:00:00Z"}',
           '{"log":"x","stream":"stdout","time":"never"}', "[" * 100_000]  # fmt: skip
    (tmp_path / "log.json").write_text("\n".join(bad) + "\n" + good + '{"log":"hal')
    log = LogWriter(tmp_path)
    log.write("stdout", b"new\n")
    log.close()
    assert [text for _, text in texts(tmp_path)] == ["good\n", "new\n"]
    assert read(tmp_path)[0].time_ns == 1_769_853_600_000_000_000
