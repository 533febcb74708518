"""Processes that move merged directories and change hard links at once.

What the union shows afterwards is what it shows after a remount, and what kernel overlayfs
shows of the same layers.  No file is lost: each began with a content of its own.
"""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.helpers import trees
from tests.helpers.mounts import DEADLINE, kernel_overlay, mounted, mounted_union, require_root
from tests.interop.views import look

PROCESSES = 4
STEPS = int(os.environ.get("PYUNION_AT_ONCE", "60"))
DIRECTORIES = 5
IN_THE_WAY = (errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.EINVAL)
FILES = 3
LINKS = 6

VARIANTS = {
    "dev_fuse": ("transport=dev_fuse", "io_uring=auto"),
    "passthrough off": ("transport=dev_fuse", "io_uring=off", "passthrough=off"),
    "pyfuse3": ("transport=pyfuse3",),
}


def lower_tree(lowers: list[Path], linked: Path) -> None:
    """Make directories that both layers have, with files; `linked` has a file of many names."""
    for level, lower in enumerate(lowers):
        for number in range(DIRECTORIES):
            folder = lower / f"d{number}/sub"
            folder.mkdir(parents=True)
            for each in range(FILES):
                (folder / f"f{level}{each}").write_text(f"{number} {level} {each}\n" * 400)
    (linked / "link0").write_text("linked\n")
    for number in range(1, LINKS):
        (linked / f"link{number}").hardlink_to(linked / "link0")


def disturb(root: str, seed: int) -> None:
    """Move, exchange, link and write at random; what another process does may be in the way."""
    choose = random.Random(seed)
    names = [f"d{number}" for number in range(DIRECTORIES)]
    os.chdir(root)
    for step in range(STEPS):
        one, other = choose.sample(names, 2)
        action = choose.randrange(7)
        try:
            if action == 0:
                os.rename(one, f"{other}/{one}")
            elif action == 1:
                os.rename(f"{other}/{one}", one)
            elif action == 2:
                os.rename(f"{one}/sub", f"{one}/sub {seed}")
            elif action == 3:
                os.rename(f"{one}/sub {choose.randrange(PROCESSES)}", f"{one}/sub")
            elif action == 4:
                os.chmod(f"link{choose.randrange(LINKS)}", 0o600 + choose.randrange(64))
            elif action == 5:
                os.link(f"link{choose.randrange(LINKS)}", f"{one}/new {seed} {step}")
            else:
                with open(f"link{choose.randrange(LINKS)}", "a") as file:
                    file.write(f"{seed}\n")
        except OSError as error:
            if error.errno not in IN_THE_WAY:
                raise


def originals(tree: trees.Tree) -> list[bytes]:
    return sorted(
        thing.content
        for thing in tree.values()
        if thing.content.endswith(b"\n") and thing.nlink == 1
    )


def disturb_all(root: Path) -> None:
    """Run `PROCESSES` of `disturb` at once."""
    command = "import sys; from tests.interop.test_at_once import disturb; "
    command += "disturb(sys.argv[1], int(sys.argv[2]))"
    children = [
        subprocess.Popen([sys.executable, "-c", command, str(root), str(seed)])
        for seed in range(PROCESSES)
    ]
    assert [child.wait(120) for child in children] == [0] * PROCESSES


@pytest.mark.parametrize("variant", VARIANTS)
def test_directories_and_links_at_once(tmp_path: Path, variant: str) -> None:
    require_root()
    if variant == "pyfuse3":
        pytest.importorskip("pyfuse3")
    lowers = [tmp_path / "lower0", tmp_path / "lower1"]
    upper, work = tmp_path / "upper", tmp_path / "work"
    for folder in (*lowers, upper, work):
        folder.mkdir()
    lower_tree(lowers, lowers[1])
    with mounted(lowers, upper, work, VARIANTS[variant]) as root:
        before = look(root)
        disturb_all(root)
        after = look(root)
    assert originals(after) == originals(before)
    linked = {thing.ino for thing in after.values() if b"linked" in thing.content}
    assert len(linked) == 1
    with mounted(lowers, upper, work, VARIANTS[variant]) as root:
        trees.assert_same(after, look(root), "after a remount")
    with kernel_overlay(lowers, upper, work, ["index=on", "redirect_dir=on"]) as root:
        trees.assert_same(after, look(root), "by kernel overlayfs")


@pytest.mark.parametrize("variant", VARIANTS)
def test_over_a_layer_on_fuse(tmp_path: Path, variant: str) -> None:
    """Every request is served by a thread of its own.  Links on FUSE would break: no handles."""
    if variant == "pyfuse3":
        pytest.importorskip("pyfuse3")
    lowers = [tmp_path / "lower0", tmp_path / "lower1"]
    upper, work = tmp_path / "upper", tmp_path / "work"
    for folder in (*lowers, upper, work):
        folder.mkdir()
    lower_tree(lowers, lowers[0])
    with mounted([lowers[1]], options=["transport=dev_fuse"]) as far:
        layers = [lowers[0], far]
        with mounted(layers, upper, work, VARIANTS[variant]) as root:
            before = look(root)
            disturb_all(root)
            after = look(root)
        assert originals(after) == originals(before)
        with mounted(layers, upper, work, VARIANTS[variant]) as root:
            trees.assert_same(after, look(root), "after a remount")


@pytest.mark.parametrize("options", [(), ("timeout=0",), ("passthrough=off",)])
def test_the_upper_of_a_live_mount_as_a_lower(tmp_path: Path, options: tuple[str, ...]) -> None:
    """What is seen of its changes is undefined, as in overlayfs; nothing hangs or ends."""
    require_root()
    lower, upper, above = (tmp_path / name for name in ("lower", "upper", "above"))
    lower_tree([lower], lower)
    for folder in (upper, above, tmp_path / "work", tmp_path / "work2"):
        folder.mkdir()
    layers = ([upper, lower], above, tmp_path / "work2", options)
    with (
        mounted_union([lower], upper, tmp_path / "work") as one,
        mounted_union(*layers, quiet=False) as other,
    ):
        threads = [
            ThreadPoolExecutor(1).submit(_change, root, seed, reads)
            for seed, (root, reads) in enumerate([(one.root, 0.2), (other.root, 0.9)] * 2)
        ]
        failed = set[int]().union(*(thread.result(DEADLINE) for thread in threads))
        assert failed <= {*IN_THE_WAY, errno.EIO, errno.ESTALE, errno.ENXIO, errno.ENOTDIR}
        (other.root / "at last").write_text("it works")
        warned = "is in use as upperdir of another mount" in other.log()
        assert warned == ("timeout=0" not in options), "with it, layers may change"
    assert (above / "at last").read_text() == "it works"


def _change(root: Path, seed: int, reads: float) -> set[int]:
    """Read and change what there is at random; return the errors."""
    chance, failed = random.Random(seed), set[int]()

    def name() -> Path:
        return root / f"d{chance.randrange(DIRECTORIES)}/sub" / f"f{chance.randrange(FILES + 1)}"

    looks: list[Callable[[], object]] = [
        lambda: name().read_bytes(),
        lambda: os.listdir(name().parent),
        lambda: name().chmod(0o600),
        lambda: name().stat(),
    ]
    changes: list[Callable[[], object]] = [
        lambda: name().write_bytes(b"new"),
        lambda: name().unlink(),
        lambda: name().rename(name()),
        lambda: os.link(name(), name()),
        lambda: name().parent.parent.rename(name().parent.parent),
    ]
    for _ in range(20 * STEPS):
        try:
            chance.choice(looks if chance.random() < reads else changes)()
        except OSError as error:
            failed.add(error.errno or 0)
    return failed
