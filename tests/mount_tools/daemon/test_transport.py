"""Which transport is taken, and what is said of those that are not."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from mount_tools.daemon import transport
from mount_tools.daemon.transport import Transport, load_transport
from mount_tools.mount.options import parse_options
from tests.helpers.mounts import require
from unionfs.errors import MountError


def require_pyfuse3() -> None:
    require(importlib.util.find_spec("pyfuse3") is not None, "pyfuse3, an extra, is not installed")


def load(name: str) -> Transport:
    return load_transport(parse_options([f"lowerdir=/l,transport={name}"], privileged=True))


def test_the_wanted_transport_or_the_reason() -> None:
    require_pyfuse3()
    assert load("pyfuse3").name == "pyfuse3"
    assert load("auto").name == "dev_fuse"


def test_a_kernel_too_old_for_the_fast_transport(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    require_pyfuse3()
    from unionfs.transports import dev_fuse

    monkeypatch.setattr(dev_fuse, "why_not", lambda: "Linux 4.19 is too old")
    with caplog.at_level("INFO"):
        assert load("auto").name == "pyfuse3"
    assert "transport pyfuse3 (not dev_fuse: Linux 4.19 is too old)" in caplog.text


def test_transports_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "TRANSPORTS", {"pyfuse3": "no_such_a", "dev_fuse": "no_such_b"})
    with pytest.raises(MountError, match=r"pyfuse3: .*no_such_a.*dev_fuse: .*no_such_b"):
        load("auto")
    with pytest.raises(MountError, match="no transport works here: dev_fuse: "):
        load("dev_fuse")


def test_a_missing_pyfuse3_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyfuse3", None)
    monkeypatch.delitem(sys.modules, "unionfs.transports.pyfuse3_ops", raising=False)
    with pytest.raises(MountError, match=r"pip install 'pyunion\[pyfuse3\]'"):
        load("pyfuse3")
