"""The process that finds images of an engine for a build in a user namespace."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from layerstore.archive import engine_store
from layerstore.archive.engine_store import EngineImage, EngineStore
from layerstore.errors import NotFound, StoreError
from layerstore.oci.reference import parse_reference
from mount_tools.build.engine_finder import EngineFinder

FOUND = (
    EngineStore(Path("/store\udcff")),
    EngineImage(
        "a" * 64,
        (parse_reference("localhost/web:1"), parse_reference(f"web@sha256:{'b' * 64}")),
        ("c" * 64, "d" * 64),
        (Path("/store\udcff/overlay/c/diff"), Path("/store\udcff/overlay/d/diff")),
    ),
)


def find(text: str) -> tuple[EngineStore, EngineImage]:
    if text != "containers-storage:web":
        raise NotFound(f"there is no image {text}")
    return FOUND


@contextmanager
def finder(monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineFinder]:
    monkeypatch.setattr(engine_store, "find_in_engine", find)
    made = EngineFinder()
    try:
        yield made
    finally:
        made.close()


def test_what_it_finds_comes_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with finder(monkeypatch) as made:
        for _ in range(2):
            assert made.find("containers-storage:web") == FOUND
            with pytest.raises(StoreError, match="there is no image x"):
                made.find("x")


def test_a_finder_ends_when_it_is_closed_and_a_dead_one_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with finder(monkeypatch) as made:
        pid = made.pid
        os.kill(pid, signal.SIGINT)  # as by Ctrl-C, which goes to all processes of the terminal
        assert made.find("containers-storage:web") == FOUND
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(StoreError, match="was killed"):
            made.find("containers-storage:web")
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)
