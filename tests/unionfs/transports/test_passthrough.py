"""Files the kernel reads and writes by itself, and what happens when one is written meanwhile."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import mmap
import os
import select
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from layerstore.containers.control_client import freeze
from tests.conformance.tree import directory, file, hard_link
from tests.helpers.calls import FS_NODUMP_FL, cached_pages, get_flags, next_tick, set_flags
from tests.helpers.layers import HandmadeLayers
from tests.helpers.mounts import DEADLINE, Union, kernel_overlay, mounted_union, run, wait_until
from tests.helpers.processes import is_at_end

BIG = bytes(range(256)) * 1024
SMALL = b"a few bytes"


@pytest.fixture
def options(io_uring: str) -> tuple[str, ...]:
    return ("transport=dev_fuse", f"io_uring={io_uring}", "passthrough=all")


@pytest.fixture
def usual(io_uring: str) -> tuple[str, ...]:
    """Options with which only programs and libraries of a lower are passed through to."""
    return ("transport=dev_fuse", f"io_uring={io_uring}")


def asked(union: Union) -> dict[str, int]:
    """Return how often each request was made so far."""
    counters = json.loads(os.getxattr(union.root, "user.pyunion.counters"))
    return {name: count for name, count in counters.items() if name.isupper()}


def requires_passthrough(union: Union) -> None:
    union.root.stat()
    if "passthrough" not in union.log():
        pytest.skip("this kernel has no FUSE passthrough (Linux 6.9)")


def test_reads_writes_and_maps_ask_nothing(
    layers: HandmadeLayers, options: tuple[str, ...]
) -> None:
    layers.layer(file("big", BIG))
    with mounted_union(layers.stack, layers.upper, layers.work, options) as union:
        requires_passthrough(union)
        assert (union.root / "big").read_bytes() == BIG
        with open(union.root / "new", "w+b") as new:
            new.write(BIG)
            new.flush()
            with mmap.mmap(new.fileno(), len(BIG)) as view:
                view[1000:1004] = b"mmap"
                view.flush()
        assert (union.root / "new").read_bytes()[1000:1004] == b"mmap"
        counts = asked(union)
        assert "READ" not in counts
        assert "WRITE" not in counts
    assert (layers.upper / "new").read_bytes()[1000:1004] == b"mmap"


def test_a_small_lower_file_is_never_asked_for(
    layers: HandmadeLayers, options: tuple[str, ...]
) -> None:
    """It comes with its first open; neither its pages nor its attributes cost a request.

    Nothing can keep the kernel from asking whether it is a terminal (IOCTL).
    """
    layers.layer(file("small", SMALL))
    with mounted_union(layers.stack, layers.upper, layers.work, options) as union:
        path = union.root / "small"
        path.stat()
        before = asked(union)
        assert path.read_bytes() == SMALL
        path.stat()
        after = asked(union)
        assert after.get("READ", 0) == 0
        changed = {name for name in after if after[name] != before.get(name, 0)}
        assert changed <= {"OPEN", "RELEASE", "GETXATTR", "IOCTL"}


def test_a_writer_beside_readers_of_the_lower(
    layers: HandmadeLayers, options: tuple[str, ...]
) -> None:
    """The readers keep what they opened; everybody else sees the new file."""
    layers.layer(file("big", BIG))
    with mounted_union(layers.stack, layers.upper, layers.work, options) as union:
        requires_passthrough(union)
        path = union.root / "big"
        before = path.stat()
        with open(path, "rb") as reader, open(path, "r+b") as writer:
            writer.write(b"written")
            writer.flush()
            assert reader.read(7) == BIG[:7]
            assert os.fstat(reader.fileno()).st_ino == os.fstat(writer.fileno()).st_ino
            with open(path, "rb") as later:
                assert later.read(7) == b"written"
            assert reader.read(7) == BIG[7:14]
        assert path.read_bytes() == b"written" + BIG[7:]
        assert path.stat().st_ino == before.st_ino


def test_a_writer_by_another_name_of_a_file_being_read(
    layers: HandmadeLayers, options: tuple[str, ...]
) -> None:
    """The names stay one file; the reader keeps the lower one."""
    layers.layer(file("one", BIG), directory("d"), hard_link("d/two", "one"))
    with mounted_union(layers.stack, layers.upper, layers.work, options) as union:
        requires_passthrough(union)
        one, two = union.root / "one", union.root / "d/two"
        inode = one.stat().st_ino
        with open(one, "rb") as reader:
            with open(two, "r+b") as writer:
                writer.write(b"written")
            assert one.read_bytes() == two.read_bytes() == b"written" + BIG[7:]
            assert reader.read() == BIG
        assert one.stat().st_ino == two.stat().st_ino == inode
        assert one.stat().st_nlink == 2
        one.unlink()
        assert two.stat().st_nlink == 1
        assert two.read_bytes() == b"written" + BIG[7:]


def test_truncate_chmod_and_rename_beside_a_reader(
    layers: HandmadeLayers, options: tuple[str, ...]
) -> None:
    layers.layer(*(file(name, BIG) for name in ("cut", "mode", "name", "gone")))
    with mounted_union(layers.stack, layers.upper, layers.work, options) as union:
        root = union.root
        readers = [open(root / name, "rb") for name in ("cut", "mode", "name", "gone")]  # noqa: SIM115
        os.truncate(root / "cut", 5)
        os.chmod(root / "mode", 0o600)
        os.rename(root / "name", root / "moved")
        os.unlink(root / "gone")
        for reader in readers[1:]:
            assert reader.read() == BIG
        assert (root / "cut").read_bytes() == BIG[:5]
        assert stat_mode(root / "mode") == 0o600
        assert (root / "moved").read_bytes() == BIG
        for name in ("mode", "moved"):
            with open(root / name, "ab") as writer:
                writer.write(b"more")
            assert (root / name).read_bytes() == BIG + b"more"
        for reader in readers:
            reader.close()
        assert sorted(os.listdir(root)) == ["cut", "mode", "moved"]
        assert (root / "cut").stat().st_size == 5


def test_the_inodes_that_a_file_became_agree_in_attributes(
    layers: HandmadeLayers, options: tuple[str, ...]
) -> None:
    """And the old one can be opened again: for reading, as it is read by those who have it."""
    layers.layer(file("big", BIG), file("program", b"\x7fELF" + BIG))
    with mounted_union(layers.stack, layers.upper, layers.work, options) as union:
        requires_passthrough(union)
        for name in ("big", "program"):
            path = union.root / name
            with open(path, "rb") as reader, open(path, "r+b") as writer:
                writer.write(b"written")
                writer.flush()
                os.fchmod(reader.fileno(), 0o640)
                os.utime(reader.fileno(), ns=(1, 2))
                os.ftruncate(writer.fileno(), 1000)
                for st in (os.fstat(reader.fileno()), os.fstat(writer.fileno()), path.stat()):
                    assert (st.st_mode & 0o7777, st.st_size) == (0o640, 1000)
                with open(f"/dev/fd/{reader.fileno()}", "rb") as again:
                    assert again.read(4) == reader.read(4)
                with pytest.raises(OSError, match=os.strerror(errno.ETXTBSY)):
                    open(f"/dev/fd/{reader.fileno()}", "r+b")  # noqa: SIM115
                path.unlink()
                assert os.fstat(reader.fileno()).st_nlink == 0


def test_the_inodes_that_a_file_became_have_one_flock(
    layers: HandmadeLayers, options: tuple[str, ...]
) -> None:
    layers.layer(file("big", BIG))
    with mounted_union(layers.stack, layers.upper, layers.work, options) as union:
        requires_passthrough(union)
        path = union.root / "big"
        with open(path, "rb") as reader, open(path, "r+b") as writer:
            for holder, other in ((reader, writer), (writer, reader)):
                fcntl.flock(holder, fcntl.LOCK_EX)
                with pytest.raises(BlockingIOError):
                    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                waiter = subprocess.Popen(["flock", "-x", path, "true"])
                with pytest.raises(subprocess.TimeoutExpired):
                    waiter.wait(0.2)
                fcntl.flock(holder, fcntl.LOCK_UN)
                assert waiter.wait(DEADLINE) == 0
            fcntl.flock(reader, fcntl.LOCK_EX)
            waiter = subprocess.Popen(["flock", "-x", path, "true"])
            with pytest.raises(subprocess.TimeoutExpired):
                waiter.wait(0.2)
            waiter.terminate()
            assert waiter.wait(DEADLINE) == -signal.SIGTERM
            waiter = subprocess.Popen(["flock", "-x", path, "true"])
        assert waiter.wait(DEADLINE) == 0, "the close unlocks"


def stat_mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_a_running_program_is_not_written_to(
    layers: HandmadeLayers, options: tuple[str, ...]
) -> None:
    lower = layers.layer()
    shutil.copy("/bin/sleep", lower / "program")
    with open(lower / "program", "ab") as program:
        program.write(bytes(100_000))
    with mounted_union(layers.stack, layers.upper, layers.work, options) as union:
        child = subprocess.Popen([union.root / "program", "60"])
        try:
            with pytest.raises(OSError) as caught:
                open(union.root / "program", "r+b")  # noqa: SIM115
            assert caught.value.errno == errno.ETXTBSY
        finally:
            child.kill()
            child.wait(DEADLINE)
        with open(union.root / "program", "ab") as program:
            program.write(b"x")
        run(union.root / "program", "0")


def test_layers_on_a_stacked_filesystem(layers: HandmadeLayers, options: tuple[str, ...]) -> None:
    """The kernel passes through to an overlayfs as well; nothing can be stacked on us then."""
    below = layers.base / "below"
    for name in ("lower", "upper", "work"):
        (below / name).mkdir(parents=True)
    with kernel_overlay([below / "lower"], below / "upper", below / "work") as stacked:
        for name in ("lower", "upper", "work"):
            (stacked / name).mkdir()
        (stacked / "lower/big").write_bytes(BIG)
        words = (stacked / "lower", stacked / "upper", stacked / "work")
        with mounted_union([words[0]], words[1], words[2], options) as union:
            requires_passthrough(union)
            assert (union.root / "big").read_bytes() == BIG
            with open(union.root / "big", "ab") as writer:
                writer.write(b"more")
            assert (union.root / "big").read_bytes() == BIG + b"more"
            counts = asked(union)
            assert "READ" not in counts
            assert "WRITE" not in counts


def test_four_mounts_hold_a_layer_in_memory_once(layers: HandmadeLayers) -> None:
    lower = layers.layer(file("big", BIG))
    pages = len(BIG) // mmap.PAGESIZE
    mounts = [mounted_union(layers.stack, options=["transport=dev_fuse"]) for _ in range(4)]
    with mounts[0] as first, mounts[1] as second, mounts[2] as third, mounts[3] as fourth:
        requires_passthrough(first)

        def held_once() -> bool:
            for union in (first, second, third, fourth):
                assert (union.root / "big").read_bytes() == BIG
                assert cached_pages(union.root / "big") == 0
            return cached_pages(lower / "big") == pages

        wait_until(held_once, "the layer to stay in memory, which others may empty")


def test_without_passthrough_every_reader_sees_every_write(
    layers: HandmadeLayers, options: tuple[str, ...]
) -> None:
    layers.layer(file("big", BIG))
    words = (*options[:2], "passthrough=off")
    with mounted_union(layers.stack, layers.upper, layers.work, words) as union:
        path = union.root / "big"
        with open(path, "rb") as reader, open(path, "r+b") as writer:
            view = mmap.mmap(reader.fileno(), 0, prot=mmap.PROT_READ)
            writer.write(b"written")
            writer.flush()
            assert reader.read(7) == b"written"
            assert view[:7] == b"written"
            view.close()
        counts = asked(union)
        assert counts["WRITE"] == 1
        reads = counts["READ"]
        assert path.read_bytes() == b"written" + BIG[7:]
        assert path.read_bytes() == b"written" + BIG[7:]
        assert asked(union)["READ"] <= reads + len(BIG) // (128 << 10)


@pytest.mark.parametrize("further", [(), ("timeout=1",)], ids=["immutable", "changing"])
def test_one_file_is_one_inode(
    layers: HandmadeLayers, usual: tuple[str, ...], further: tuple[str, ...]
) -> None:
    """Locks, data, attributes and re-opening agree, though the reader was there first."""
    layers.layer(file("big", BIG))
    with mounted_union(layers.stack, layers.upper, layers.work, (*usual, *further)) as union:
        requires_passthrough(union)
        path = union.root / "big"
        with open(path, "rb") as reader, open(path, "r+b") as writer:
            view = mmap.mmap(reader.fileno(), 0, prot=mmap.PROT_READ)
            writer.write(b"written")
            writer.flush()
            assert reader.read(7) == view[:7] == b"written"
            view.close()
            fcntl.flock(reader, fcntl.LOCK_EX)
            with open(path, "rb") as other, pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with open(f"/dev/fd/{reader.fileno()}", "rb") as again:
                assert again.read(7) == b"written"
            os.fchmod(reader.fileno(), 0o640)
            assert stat_mode(path) == 0o640
            os.ftruncate(writer.fileno(), 5)
            assert os.fstat(reader.fileno()).st_size == 5
            path.unlink()
            assert os.fstat(reader.fileno()).st_nlink == 0


def test_one_file_is_one_inode_over_a_commit(
    layers: HandmadeLayers, usual: tuple[str, ...]
) -> None:
    """The kernel has a file of the upper open, which becomes a lower one."""
    layers.layer(file("other", b""))
    control = layers.base / "control"
    words = (*usual, f"control={control}")
    with mounted_union(layers.stack, layers.upper, layers.work, words) as union:
        requires_passthrough(union)
        path = union.root / "new"
        path.write_bytes(BIG)
        with open(path, "rb") as reader:
            fcntl.flock(reader, fcntl.LOCK_EX)
            freeze(control, layers.base / "frozen")
            with open(path, "r+b") as writer:
                writer.write(b"written")
                writer.flush()
                assert reader.read(7) == b"written"
                with pytest.raises(BlockingIOError):
                    fcntl.flock(writer, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.fchmod(reader.fileno(), 0o640)
                assert stat_mode(path) == 0o640
        assert (layers.base / "frozen/new").read_bytes() == BIG


def test_a_reader_that_waits_sees_what_is_appended(
    layers: HandmadeLayers, usual: tuple[str, ...]
) -> None:
    """tail -f on a file that it opened before the copy-up."""
    layers.layer(file("log", BIG))
    with mounted_union(layers.stack, layers.upper, layers.work, usual) as union:
        path = union.root / "log"
        tail = subprocess.Popen(["tail", "-n0", "-f", path], stdout=subprocess.PIPE)
        try:
            wait_until(lambda: is_at_end(tail.pid, path), "tail to be at the end")
            with open(path, "ab") as writer:
                writer.write(b"appended\n")
            assert tail.stdout is not None
            assert select.select([tail.stdout], [], [], 20)[0]
            assert tail.stdout.readline() == b"appended\n"
        finally:
            tail.kill()
            tail.communicate(timeout=DEADLINE)


def test_programs_and_libraries_are_in_memory_once_and_other_files_are_cached(
    layers: HandmadeLayers, usual: tuple[str, ...]
) -> None:
    """The kernel maps what is executed or loaded by itself; what is read, it reads through us."""
    lower = layers.layer(file("big", BIG))
    library = next(Path("/lib").glob("*-linux-gnu/libm.so.6"))
    shutil.copy(library, lower / "library.so")
    shutil.copy("/bin/sh", lower / "program")
    with mounted_union(layers.stack, layers.upper, layers.work, usual) as union:
        requires_passthrough(union)
        program, loaded = union.root / "program", union.root / "library.so"
        for words, preload in (([program, "-c", ":"], ""), (["true"], str(loaded))):
            run(*words, env={**os.environ, "LD_PRELOAD": preload})
        assert "READ" not in asked(union)
        assert cached_pages(program) == cached_pages(loaded) == 0
        for name in ("big", "program", "library.so"):
            content = (lower / name).read_bytes()
            is_read_once = partial(read_once, union, name, content)
            wait_until(is_read_once, f"{name} to stay in memory, which others may empty")


def read_once(union: Union, name: str, content: bytes) -> bool:
    """Read a file twice; tell whether the kernel had it in memory after the first time."""
    before = asked(union).get("READ", 0)
    assert (union.root / name).read_bytes() == content
    reads = asked(union).get("READ", 0)
    assert reads >= before
    if cached_pages(union.root / name) != -(-len(content) // mmap.PAGESIZE):
        return False
    assert (union.root / name).read_bytes() == content
    return asked(union).get("READ", 0) == reads


def test_two_mounts_hold_a_loaded_library_in_memory_once(
    layers: HandmadeLayers, usual: tuple[str, ...]
) -> None:
    """Two programs, one of each mount, count each page of the file half (PSS)."""
    lower = layers.layer(file("other", b""))
    (lower / "library.so").write_bytes(
        next(Path("/lib").glob("*-linux-gnu/libm.so.6")).read_bytes()
    )
    # Each touches all pages of the code: which ones loading maps depends on what was read by then.
    script = """
import ctypes, mmap, sys

ctypes.CDLL(sys.argv[1])
for line in open("/proc/self/maps"):
    if line.endswith("/library.so\\n") and " r-xp " in line:
        begin, end = (int(word, 16) for word in line.split()[0].split("-"))
        for address in range(begin, end, mmap.PAGESIZE):
            ctypes.string_at(address, 1)
print(flush=True)
sys.stdin.read()
"""
    with contextlib.ExitStack() as stack:
        children = []
        for number in range(2):
            upper, work = layers.base / f"upper{number}", layers.base / f"work{number}"
            upper.mkdir()
            work.mkdir()
            union = stack.enter_context(mounted_union(layers.stack, upper, work, usual))
            requires_passthrough(union)
            child = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", script, union.root / "library.so"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            )
            assert child.stdout is not None
            assert child.stdout.readline() == b"\n"
            children.append(child)
        for child in children:
            rss, pss = memory_of(child.pid, "library.so")
            assert 0 < pss <= rss * 0.6


def memory_of(pid: int, name: str) -> tuple[int, int]:
    """Return the KiB of code of the file `name` that a process has mapped, and its share."""
    rss = pss = 0
    ours = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0]:
            ours = line.endswith("/" + name) and "r-xp" in words
        elif ours and words[0] in ("Rss:", "Pss:"):
            rss += int(words[1]) * (words[0] == "Rss:")
            pss += int(words[1]) * (words[0] == "Pss:")
    return rss, pss


def test_a_read_only_mount_passes_every_file_through(
    layers: HandmadeLayers, usual: tuple[str, ...]
) -> None:
    layers.layer(file("big", BIG))
    with mounted_union(layers.stack, options=usual) as union:
        requires_passthrough(union)
        assert (union.root / "big").read_bytes() == BIG
        assert "READ" not in asked(union)


def test_times_after_a_store_through_a_mapping(
    layers: HandmadeLayers, usual: tuple[str, ...]
) -> None:
    """stat shows them after msync, and after munmap and close."""
    layers.layer(file("big", BIG))
    with mounted_union(layers.stack, layers.upper, layers.work, usual) as union:
        path = union.root / "big"
        path.touch()
        for closes in (False, True):
            before = path.stat()
            next_tick()
            with open(path, "r+b") as file_:
                path.stat()
                with mmap.mmap(file_.fileno(), 0) as view:
                    view[0:1] = b"x"
                    view.flush()
                after = None if closes else path.stat()
            after = after or path.stat()
            assert after.st_mtime_ns > before.st_mtime_ns
            assert after.st_ctime_ns > before.st_ctime_ns


def test_chattr_changes_ctime(layers: HandmadeLayers, usual: tuple[str, ...]) -> None:
    layers.layer(file("big", BIG))
    with mounted_union(layers.stack, layers.upper, layers.work, usual) as union:
        path = union.root / "big"
        path.touch()
        before = path.stat()
        next_tick()
        set_flags(path, get_flags(path) | FS_NODUMP_FL)
        assert path.stat().st_ctime_ns > before.st_ctime_ns
