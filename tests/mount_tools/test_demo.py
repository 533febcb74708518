"""The demo leaves nothing mounted, however it ends; the rest of it is `make demo` itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mount_tools import demo
from tests.helpers.mounts import mount_type, require_fuse, require_root, wait_until
from tests.mount_tools.conftest import Layers

KILLED_OUTRIGHT = """
import os, signal, sys
from pathlib import Path
from mount_tools import demo
lower, upper, work, merged = map(Path, sys.argv[1:])
with demo.mounted([lower], upper, work, merged):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def cache(layers: Layers, monkeypatch: pytest.MonkeyPatch) -> Layers:
    """Layers in the demo's cache, for a demo that can mount them."""
    require_fuse()
    require_root()
    command = Path(sys.executable).with_name("mount.pyunion")
    if not command.exists():
        pytest.skip(f"{command} is not installed (pip install -e .)")
    monkeypatch.setattr(demo, "CACHE", layers.base)
    return layers


def test_unmounted_when_a_step_fails(cache: Layers, capfd: pytest.CaptureFixture[str]) -> None:
    with (
        pytest.raises(demo.DemoError, match="false ended with status 1"),
        demo.mounted([cache.high, cache.low], cache.upper, cache.work, cache.merged),
    ):
        assert mount_type(cache.merged) == "fuse.pyunion"
        demo.run("false")
    assert demo.mounts_beneath(cache.base) == []
    assert "Unmounting" in capfd.readouterr().out


def test_unmounted_when_killed_outright(cache: Layers) -> None:
    paths = (cache.low, cache.upper, cache.work, cache.merged)
    done = subprocess.run([sys.executable, "-c", KILLED_OUTRIGHT, *paths], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    wait_until(lambda: mount_type(cache.merged) is None, "the guard to unmount")


def test_next_run_clears_what_was_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "CACHE", tmp_path)
    (tmp_path / "demo-left" / "upper").mkdir(parents=True)
    (tmp_path / "debian-x.partial").mkdir()
    with demo.workspace() as here:
        assert {path.name for path in tmp_path.iterdir()} == {"lock", here.name}
        with pytest.raises(demo.DemoError, match="another demo"), demo.workspace():
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_signal_waits_for_the_end_of_what_must_not_be_cut_short() -> None:
    steps = []
    with pytest.raises(SystemExit) as ended:
        with demo.uninterrupted():
            os.kill(os.getpid(), signal.SIGTERM)
            steps.append("to the end")
        steps.append("never reached")
    assert ended.value.code == 128 + signal.SIGTERM
    assert steps == ["to the end"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_sources_are_those_of_this_release(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = """\
Debian bookworm|deb http://mirror.example/debian/ bookworm main
Debian bookworm|deb http://mirror.example/debian/ bookworm main
Debian bookworm-security|deb http://mirror.example/security/ bookworm-security main
Debian trixie|deb http://mirror.example/debian/ testing main
Debian Backports bookworm-backports|deb http://mirror.example/debian/ bookworm-backports main
Somebody bookworm|deb http://elsewhere.example/ bookworm main
"""
    monkeypatch.setattr(demo, "run", lambda *argv: targets)
    assert demo.debian_sources("bookworm").splitlines() == [
        "deb http://mirror.example/debian/ bookworm main",
        "deb http://mirror.example/security/ bookworm-security main",
    ]
