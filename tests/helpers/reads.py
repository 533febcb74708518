"""How many bytes preadv(2) has read."""

from __future__ import annotations

import os

import pytest


class Reads:
    """Counts what this process reads by os.preadv(); `size` is in bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.size = 0
        self._preadv = os.preadv
        monkeypatch.setattr(os, "preadv", self._counted)

    def _counted(self, fd: int, buffers: list[memoryview], offset: int) -> int:
        size = self._preadv(fd, buffers, offset)
        self.size += size
        return size
