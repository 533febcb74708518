"""Images of podman and buildah: when an ordinary user enters the user namespace."""

from __future__ import annotations

from pathlib import Path

import pytest

from mount_tools.cli.commands import engine_image
from mount_tools.cli.invocation import Invocation


def test_owners_are_checked_outside_of_the_user_namespace_and_files_read_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[object] = []

    def find(text: str) -> str:
        steps.append(text)
        return "found"

    def load(store: object, found: object, *, report: object) -> list[object]:
        steps.append(found)
        return []

    monkeypatch.setattr(engine_image, "find_in_engine", find)
    monkeypatch.setattr(engine_image, "read_all", lambda: steps.append("read all"))
    monkeypatch.setattr(engine_image, "load_from_engine", load)
    invocation = Invocation(str(tmp_path / "store"), sync=False)
    try:
        assert (
            engine_image.load_engine_image(invocation, "containers-storage:web", quiet=True) == []
        )
    finally:
        invocation.close()
    assert steps == ["containers-storage:web", "read all", "found"]
