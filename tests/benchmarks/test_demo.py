"""The demo leaves nothing mounted, however it ends; the rest of it is `make demo` itself."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import demo
from tests.helpers.mounts import require, require_fuse, require_root, wait_until

KILLED_OUTRIGHT = """
import os, signal, sys
from pathlib import Path
from benchmarks import demo
with demo.container(demo.Pyunion(Path(sys.argv[1]))):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def pyunion(tmp_path: Path) -> demo.Pyunion:
    """The command on a store with an image to run."""
    require_fuse()
    require_root()
    busybox = shutil.which("busybox")
    require(busybox is not None, "busybox is not installed")
    assert busybox is not None
    command = Path(sys.executable).with_name("pyunion")
    if not command.exists():
        pytest.skip(f"{command} is not installed (pip install -e .)")
    (tmp_path / "rootfs/bin").mkdir(parents=True)
    shutil.copy(busybox, tmp_path / "rootfs/bin/sleep")
    made = demo.Pyunion(tmp_path / "store")
    made.quietly("import", tmp_path / "rootfs", demo.IMAGE)
    return made


def containers(pyunion: demo.Pyunion) -> list[str]:
    return pyunion.quietly("ps", "--all", "--format", "{{.Names}} {{.State}}").splitlines()


def test_removed_when_a_step_fails(
    pyunion: demo.Pyunion, capfd: pytest.CaptureFixture[str]
) -> None:
    with (
        pytest.raises(demo.DemoError, match="false ended with status 1"),
        demo.container(pyunion),
    ):
        assert containers(pyunion) == [f"{demo.BOX} running"]
        demo.run("false")
    assert containers(pyunion) == []
    assert "$ pyunion rm --force" in capfd.readouterr().out


def test_removed_when_killed_outright(pyunion: demo.Pyunion, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED_OUTRIGHT, tmp_path / "store"], capture_output=True
    )
    assert done.returncode == -signal.SIGKILL
    wait_until(lambda: containers(pyunion) == [], "the guard to remove the container")


def test_what_is_shown_is_what_was_typed_and_printed(
    pyunion: demo.Pyunion, capsys: pytest.CaptureFixture[str]
) -> None:
    pyunion.show("images", "--format", "{{.Repository}}")
    assert capsys.readouterr().out.startswith(
        "\n$ pyunion images --format '{{.Repository}}'\n  debian\n"
    )
    with pytest.raises(demo.DemoError, match="pyunion rmi ended with status 1:\n  Error: No such"):
        pyunion.show("rmi", "nope")


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


def test_the_commit_goes_to_a_registry_and_back(
    pyunion: demo.Pyunion,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another store pulls and runs what was pushed."""
    if demo.registry_program() is None:
        pytest.skip("docker-registry is not here; `make test` gets it")
    (tmp_path / "rootfs/bin/sleep").rename(tmp_path / "rootfs/bin/true")
    pyunion.quietly("import", tmp_path / "rootfs", demo.CHANGED)
    monkeypatch.setattr(demo, "PACKAGE", "true")
    demo.through_registry(pyunion, tmp_path)
    said = capsys.readouterr().out
    assert "Layer already exists" in said and "Pushed" in said
    assert "no findings" in said
