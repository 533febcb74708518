"""`mount --bind -o X-mount.idmap=` of a mount: ids are mapped in both directions."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.helpers.idmapped import idmapped
from tests.helpers.io_uring import io_uring_enabled
from tests.helpers.layers import Layers
from tests.helpers.mounts import mounted, require_fuse, require_root
from tests.helpers.unions import errno_of

_FIRST = 100_000


@pytest.fixture(params=["dev_fuse", "io_uring"])
def roots(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, Path, Path]]:
    """A union as it is mounted, the same with its ids 100,000 higher, and its upper."""
    require_root()
    require_fuse()
    tmp_path.chmod(0o755)
    layers = Layers(tmp_path, {"file": "lower"})
    os.chown(layers.lowers[0] / "file", 5, 6)
    shifted = tmp_path / "shifted"
    shifted.mkdir()
    with ExitStack() as stack:
        if request.param == "io_uring":
            stack.enter_context(io_uring_enabled())
        options = ["io_uring=on" if request.param == "io_uring" else "io_uring=off"]
        root = stack.enter_context(mounted(layers.lowers, layers.upper, layers.work, options))
        root.chmod(0o777)
        stack.enter_context(idmapped(root, shifted, 0, _FIRST, 1000))
        yield root, shifted, layers.upper


def _as(user: int, script: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    words = ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "sh", "-ec")
    return subprocess.run([*words, script], cwd=cwd, capture_output=True)


def test_owners_are_shown_and_stored_by_the_map(roots: tuple[Path, Path, Path]) -> None:
    root, shifted, upper = roots
    st = (shifted / "file").stat()
    assert (st.st_uid, st.st_gid) == (_FIRST + 5, _FIRST + 6)
    script = "echo made > made; mkdir dir; ln -s made link; mkfifo fifo; chmod 600 made"
    done = _as(_FIRST + 7, script, shifted)
    assert done.returncode == 0, done.stderr
    for name in ("made", "dir", "link", "fifo"):
        for path, first in ((root / name, 0), (upper / name, 0), (shifted / name, _FIRST)):
            st = path.lstat()
            assert (st.st_uid, st.st_gid) == (first + 7, first + 7), path
    os.chown(shifted / "file", _FIRST + 8, _FIRST + 9)
    st = (upper / "file").stat()
    assert (st.st_uid, st.st_gid) == (8, 9)


def test_the_owner_has_the_rights_and_nobody_else(roots: tuple[Path, Path, Path]) -> None:
    root, shifted, _ = roots
    (root / "file").chmod(0o600)
    assert _as(_FIRST + 5, "cat file; echo more >> file", shifted).stdout == b"lower"
    assert _as(5, "cat file", shifted).returncode != 0
    assert _as(5, "cat file", root).stdout == b"lowermore\n"


def test_a_caller_without_an_id_in_the_map_makes_nothing(roots: tuple[Path, Path, Path]) -> None:
    root, shifted, _ = roots
    assert errno_of(lambda: (shifted / "new").mkdir()) == errno.EOVERFLOW
    assert errno_of(lambda: (shifted / "new").write_text("")) == errno.EOVERFLOW
    assert errno_of(lambda: (shifted / "new").symlink_to("x")) == errno.EOVERFLOW
    assert os.listdir(root) == ["file"]


def test_the_suid_of_a_file_is_lost_by_a_write(roots: tuple[Path, Path, Path]) -> None:
    """The requests of a mount that can be idmapped do not say whose they are."""
    root, shifted, _ = roots
    for place, first in ((root, 0), (shifted, _FIRST)):
        made = place / "suid"
        assert _as(first + 7, "echo 1 > suid", place).returncode == 0
        made.chmod(0o6777)
        assert _as(first + 8, "echo 2 >> suid", place).returncode == 0
        assert stat.S_IMODE(made.stat().st_mode) == 0o777
        made.unlink()
    # Without execution for the group, a member of it keeps the bit.
    (root / "locked").write_text("")
    os.chown(root / "locked", 7, 7)
    (root / "locked").chmod(0o2666)
    assert _as(7, "echo 1 >> locked", root).returncode == 0
    assert stat.S_IMODE((root / "locked").stat().st_mode) == 0o2666
    assert _as(8, "echo 1 >> locked", root).returncode == 0
    assert stat.S_IMODE((root / "locked").stat().st_mode) == 0o666


def test_trusted_attributes_are_listed_to_root_only(roots: tuple[Path, Path, Path]) -> None:
    root, _, _ = roots
    os.setxattr(root / "file", "trusted.note", b"1")
    os.setxattr(root / "file", "user.note", b"1")
    assert set(os.listxattr(root / "file")) == {"trusted.note", "user.note"}
    listed = _as(7, 'python3 -c "import os; print(os.listxattr(\\"file\\"))"', root)
    assert listed.stdout == b"['user.note']\n", listed.stderr
