"""Through mount(8) and umount(8), in a mount namespace where the helper is installed.

The namespace has kernel overlayfs over the directory mount(8) looks for
helpers in, so the machine's own stays as it is.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore import Store
from tests.helpers.images import add_image
from tests.helpers.layers import MountLayers
from tests.helpers.mounts import REPOSITORY, require_fuse, require_root, run
from tests.helpers.processes import end

SBIN = Path("/sbin").resolve()


class Namespace:
    """A mount namespace kept alive by a process; commands run in it by nsenter."""

    def __init__(self, scratch: Path) -> None:
        self.programs = scratch / "programs"
        self.programs.mkdir()
        for name, module in [
            ("mount.pyunion", "mount_tools.helper.main"),
            ("pyunion", "mount_tools.pyunion"),
        ]:
            program = self.programs / name
            program.write_text(
                f"#!/bin/sh\n"
                f"PYTHONPATH={shlex.quote(str(REPOSITORY))} "
                f'exec {shlex.quote(sys.executable)} -m {module} "$@"\n'
            )
            program.chmod(0o755)
        overlay = f"lowerdir={self.programs}:{SBIN}"
        script = f"mount -t overlay overlay -o {shlex.quote(overlay)} {SBIN} && echo && exec cat"
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        if self.process.stdout.readline() != b"\n":
            end(self.process)
            pytest.skip("kernel overlayfs cannot be mounted to install the helper")

    def run(self, *command: str | Path, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        path = f"{self.programs}:{os.environ['PATH']}"
        return run(
            *("nsenter", f"--mount=/proc/{self.process.pid}/ns/mnt", *command),
            check=check,
            env={**os.environ, "PATH": path, "LC_ALL": "C"},
        )

    def mount_line(self, directory: Path) -> str | None:
        """Return what mount(8) lists for `directory`."""
        for line in self.run("mount").stdout.decode().splitlines():
            if f" on {directory} " in line:
                return line
        return None

    def close(self) -> None:
        self.run("umount", "-l", "-a", "-t", "fuse.pyunion", check=False)
        end(self.process)


@pytest.fixture
def namespace(tmp_path: Path) -> Iterator[Namespace]:
    require_root()
    require_fuse()
    scratch = tmp_path / "namespace"
    scratch.mkdir()
    namespace = Namespace(scratch)
    try:
        yield namespace
    finally:
        namespace.close()


def works(namespace: Namespace, layers: MountLayers) -> None:
    """Fail unless the union on `layers.merged` reads, writes and deletes."""
    assert namespace.run("cat", layers.merged / "from-low").stdout == b"low\n"
    namespace.run("rm", layers.merged / "gone")
    namespace.run("cp", layers.merged / "from-low", layers.merged / "copy")
    names = namespace.run("ls", layers.merged).stdout.split()
    assert names == [b"copy", b"from-high", b"from-low"]


def test_mount_t_pyunion(namespace: Namespace, layers: MountLayers) -> None:
    namespace.run("mount", "-t", "pyunion", "image:tag", layers.merged, "-o", layers.words)
    works(namespace, layers)
    line = namespace.mount_line(layers.merged)
    assert line is not None
    assert line.startswith(f"image:tag on {layers.merged} type fuse.pyunion (rw,")
    assert "nosuid" not in line
    assert "nodev" not in line
    assert "default_permissions,allow_other" in line
    namespace.run("umount", layers.merged)
    assert namespace.mount_line(layers.merged) is None


def test_flags_reach_the_kernel(namespace: Namespace, layers: MountLayers) -> None:
    words = layers.words + ",ro,nosuid,nodev,noexec,noatime"
    namespace.run("mount", "-t", "pyunion", "-o", words, "spec", layers.merged)
    line = namespace.mount_line(layers.merged)
    assert line is not None
    assert "(ro,nosuid,nodev,noexec,noatime," in line
    done = namespace.run("touch", layers.merged / "new", check=False)
    assert b"Read-only file system" in done.stderr


@pytest.mark.parametrize("kind", ["pyunion", "fuse.pyunion"])
def test_remount_changes_flags_and_nothing_else(
    namespace: Namespace, layers: MountLayers, kind: str
) -> None:
    namespace.run("mount", "-t", kind, "spec", layers.merged, "-o", f"{layers.words},nosuid")
    namespace.run("mount", "-o", "remount,ro,noexec", layers.merged)
    line = namespace.mount_line(layers.merged) or ""
    assert all(flag in line for flag in ("(ro,", "nosuid", "noexec")), line
    done = namespace.run("touch", layers.merged / "new", check=False)
    assert b"Read-only file system" in done.stderr
    namespace.run("mount", "-o", "remount,rw,exec", layers.merged)
    line = namespace.mount_line(layers.merged) or ""
    assert "(rw,nosuid," in line
    assert "noexec" not in line
    works(namespace, layers)


def test_remount_ignores_the_options_of_the_union(
    namespace: Namespace, layers: MountLayers
) -> None:
    namespace.run("mount", "-t", "pyunion", "spec", layers.merged, "-o", layers.words)
    words = f"remount,ro,{layers.words}"
    namespace.run("mount", "-t", "pyunion", "spec", layers.merged, "-o", words)
    assert "(ro," in (namespace.mount_line(layers.merged) or "")


@pytest.mark.parametrize("kind", ["pyunion", "fuse.pyunion"])
def test_an_image_is_nosuid_and_nodev_unless_asked(
    namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """mount.fuse3 adds suid and dev by itself, and mount(8) drops them where they are given."""
    monkeypatch.setenv("PYUNION_ROOT", str(tmp_path / "store"))
    with Store.open(tmp_path / "store", sync=False) as store:
        add_image(store, {"file": b""}, names=["of:1"])
    point = tmp_path / "point"
    point.mkdir()
    fstab = tmp_path / "fstab"
    fstab.write_text(f"of:1 {point} {kind} defaults 0 0\n")

    def flags() -> set[str]:
        line = namespace.mount_line(point) or ""
        return {"nosuid", "nodev", "ro"} & set(line.partition("(")[2].split(","))

    namespace.run("mount", "-t", kind, "of:1", point)
    assert flags() == {"nosuid", "nodev"}
    for words in ([point], ["-t", kind, "of:1", point], ["--fstab", fstab, point]):
        namespace.run("mount", "-o", "remount,ro", *words)
        assert flags() == {"nosuid", "nodev", "ro"}
    namespace.run("umount", point)
    namespace.run("mount", "-t", kind, "of:1", point, "-o", "allow_suid,allow_dev")
    assert flags() == set()
    namespace.run("umount", point)


def test_without_an_upper_mount_shows_ro(namespace: Namespace, layers: MountLayers) -> None:
    words = f"lowerdir={layers.high}:{layers.low}"
    namespace.run("mount", "-t", "pyunion", "-o", words, "spec", layers.merged)
    assert " (ro," in (namespace.mount_line(layers.merged) or "")


def test_mount_t_fuse_pyunion(namespace: Namespace, layers: MountLayers) -> None:
    namespace.run("mount", "-t", "fuse.pyunion", "the-spec", layers.merged, "-o", layers.words)
    works(namespace, layers)
    line = namespace.mount_line(layers.merged)
    assert line is not None
    assert line.startswith(f"the-spec on {layers.merged} type fuse.pyunion (rw,")
    namespace.run("umount", layers.merged)
    assert namespace.mount_line(layers.merged) is None


def test_a_line_of_fstab(namespace: Namespace, layers: MountLayers) -> None:
    fstab = layers.base / "fstab"
    options = f"{layers.words},noauto,user,exec,_netdev,nofail,x-systemd.automount,comment=hello"
    fstab.write_text(f"image:tag {layers.merged} pyunion {options} 0 0\n")
    namespace.run("mount", "--fstab", fstab, layers.merged)
    line = namespace.mount_line(layers.merged)
    assert line is not None
    assert "nosuid,nodev" in line  # what "user" implies
    works(namespace, layers)
    namespace.run("umount", layers.merged)


def test_option_strings_beyond_a_page(namespace: Namespace, layers: MountLayers) -> None:
    lowers = []
    for number in range(200):
        lower = layers.base / ("x" * 60 + str(number))
        lower.mkdir()
        lowers.append(str(lower))
    words = layers.words.replace("lowerdir=", f"lowerdir={':'.join(lowers)}:")
    assert len(words) > 3 * 4096
    namespace.run("mount", "-t", "pyunion", "spec", layers.merged, "-o", words)
    works(namespace, layers)


def test_escapes_pass_through(namespace: Namespace, layers: MountLayers) -> None:
    odd = layers.base / "a:b,c"
    odd.mkdir()
    (odd / "odd").touch()
    words = layers.words.replace("lowerdir=", f"lowerdir={layers.base}/a\\:b\\,c:")
    namespace.run("mount", "-t", "pyunion", "spec", layers.merged, "-o", words)
    namespace.run("test", "-e", layers.merged / "odd")


def test_failures_are_those_of_the_helper(namespace: Namespace, layers: MountLayers) -> None:
    unknown = namespace.run(
        *("mount", "-t", "pyunion", "spec", layers.merged, "-o", layers.words + ",nonsense"),
        check=False,
    )
    assert unknown.returncode == 1
    assert b"mount.pyunion: unknown option 'nonsense'" in unknown.stderr
    absent = namespace.run(
        *("mount", "-t", "pyunion", "spec", layers.merged, "-o", "lowerdir=/no/such"), check=False
    )
    assert absent.returncode == 32
    assert absent.stderr.count(b"\n") == 1
    assert namespace.mount_line(layers.merged) is None


def test_sloppy_and_fake(namespace: Namespace, layers: MountLayers) -> None:
    words = layers.words + ",nonsense"
    namespace.run("mount", "-f", "-t", "pyunion", "spec", layers.merged, "-o", layers.words)
    assert namespace.mount_line(layers.merged) is None
    namespace.run("mount", "-s", "-t", "pyunion", "spec", layers.merged, "-o", words)
    works(namespace, layers)


def test_into_another_mount_namespace(namespace: Namespace, layers: MountLayers) -> None:
    """`mount -N` calls the helper from outside and names the namespace by -N."""
    process = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo && exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        inside = f"/proc/{process.pid}/ns/mnt"
        namespace.run(
            *("mount", "-N", inside, "-t", "pyunion", "spec", layers.merged, "-o", layers.words)
        )
        assert namespace.mount_line(layers.merged) is None
        seen = run("nsenter", f"--mount={inside}", "cat", layers.merged / "from-low")
        assert seen.stdout == b"low\n"
        run("nsenter", f"--mount={inside}", "umount", layers.merged)
    finally:
        end(process)
