"""Layers with inconsistent marks: EIO on that name, or the mark ignored, and the rest works.

What kernel overlayfs does with each is asked of it too.  Where it differs, so
that a case says `kernel_too=False`: it answers EINVAL to a malformed redirect
and EACCES to one with ".."; and it looks for whiteout attributes in every
directory, but leaves them out of listings only in one marked opaque=x.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conformance.tree import Node, directory, file, special
from tests.helpers.layers import HandmadeLayers
from tests.helpers.mounts import mounted_union

T = "trusted.overlay."
BOTTOM: Sequence[Node] = (file("d/x", b"x"), file("e/y", b"y"), file("f", b"f"), file("good", b"g"))


def marked(path: str, **marks: bytes) -> Node:
    return directory(path, xattrs={T + name: value for name, value in marks.items()})


def meta(path: str, size: int, **marks: bytes) -> Node:
    found = {T + name: value for name, value in (("metacopy", b""), *marks.items())}
    return Node(path=os.fsencode(path), mode=stat.S_IFREG | 0o644, size=size, xattrs=found)


@dataclass(frozen=True)
class Case:
    """`top` over BOTTOM; `name` then gives `error`, or `content` (of a file or a listing)."""

    id: str
    top: Sequence[Node]
    name: str
    error: int = 0
    content: str = ""
    kernel_too: bool = True


LONG = b"a" * 255
CASES = (
    # redirects
    Case("redirect to nowhere", [marked("n", redirect=b"absent")], "n", content=""),
    Case("absolute redirect to nowhere", [marked("n", redirect=b"/no/such")], "n", content=""),
    Case("redirect to a file", [marked("n", redirect=b"f")], "n", content=""),
    Case("redirect through a file", [marked("n", redirect=b"/f/x")], "n", content=""),
    Case("empty redirect", [marked("n", redirect=b"")], "n", errno.EIO, kernel_too=False),
    Case(
        "redirect with a slash in a relative path",
        [marked("n", redirect=b"d/x")],
        "n",
        errno.EIO,
        kernel_too=False,
    ),
    Case("redirect with '..'", [marked("n", redirect=b"..")], "n", errno.EIO, kernel_too=False),
    Case(
        "absolute redirect with '..'",
        [marked("n", redirect=b"/d/../e")],
        "n",
        errno.EIO,
        kernel_too=False,
    ),
    Case(
        "redirect with an empty component",
        [marked("n", redirect=b"/d//x")],
        "n",
        errno.EIO,
        kernel_too=False,
    ),
    Case(
        "redirect that ends in a slash",
        [marked("n", redirect=b"/d/")],
        "n",
        errno.EIO,
        kernel_too=False,
    ),
    Case("redirect longer than 256", [marked("n", redirect=b"/" + LONG + b"/" + LONG)], "n"),
    Case("redirect to itself", [marked("d", redirect=b"d")], "d", content="x"),
    # opaque
    Case("opaque of an unknown value", [marked("d", opaque=b"?")], "d", content="x"),
    Case("opaque of two bytes", [marked("d", opaque=b"yy")], "d", content="x"),
    Case("empty opaque", [marked("d", opaque=b"")], "d", content="x"),
    Case("opaque on a file", [file("f", b"new", xattrs={T + "opaque": b"y"})], "f", content="new"),
    # metacopy
    Case("metacopy without data", [meta("n", 3)], "n", errno.EIO),
    Case("metacopy over a directory", [meta("d", 3)], "d", errno.EIO),
    Case("metacopy to nowhere", [meta("n", 3, redirect=b"/no/such")], "n", errno.EIO),
    Case("metacopy redirected to a directory", [meta("n", 3, redirect=b"/d")], "n", errno.EIO),
    Case(
        "metacopy with '..'", [meta("n", 1, redirect=b"/d/../f")], "n", errno.EIO, kernel_too=False
    ),
    Case("metacopy over a whiteout", [meta("f", 1)], "f", content="f"),
    # origin
    Case("origin of garbage", [file("f", b"new", xattrs={T + "origin": b"?"})], "f", content="new"),
    Case("empty origin", [file("f", b"new", xattrs={T + "origin": b""})], "f", content="new"),
    Case(
        "origin of another filesystem",
        [file("f", b"new", xattrs={T + "origin": b"\0\xfb\x1d\0\1" + bytes(range(24))})],
        "f",
        content="new",
    ),
    # whiteouts
    Case(
        "whiteout attribute without opaque=x",
        [directory("d"), file("d/x", xattrs={T + "whiteout": b"y"})],
        "d/x",
        content="",
        kernel_too=False,
    ),
    Case(
        "whiteout attribute on a file with content",
        [marked("d", opaque=b"x"), file("d/x", b"full", xattrs={T + "whiteout": b"y"})],
        "d/x",
        content="full",
    ),
    Case("device 0:1 is no whiteout", [special("d", stat.S_IFCHR, 1)], "d", errno.ENXIO),
)


def look(path: Path) -> str:
    if path.is_dir():
        return " ".join(sorted(os.listdir(path)))
    return path.read_text()


def check(root: Path, case: Case) -> None:
    if case.error:
        with pytest.raises(OSError) as caught:
            look(root / case.name)
        assert caught.value.errno == case.error, caught.value
    else:
        assert look(root / case.name) == case.content
    # The rest works: it is listed, read, and changed.
    assert {"good", "e", case.name.split("/")[0]} <= set(os.listdir(root))
    assert (root / "good").read_text() == "g"
    assert os.listdir(root / "e") == ["y"]
    (root / "e" / "y").write_text("changed")
    (root / "e" / "new").mkdir()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
@pytest.mark.parametrize("where", ["upper", "lower"])
def test_a_malformed_mark(layers: HandmadeLayers, case: Case, where: str) -> None:
    top = layers.layer(*case.top)
    layers.layer(*BOTTOM)
    if where == "upper":
        layers.stack.remove(top)
        layers.upper.rmdir()
        top.rename(layers.upper)
    with mounted_union(
        layers.stack, layers.upper, layers.work, ["metacopy=on"], quiet=False
    ) as union:
        check(union.root, case)
        assert "Traceback" not in union.log()
        if case.error == errno.EIO:
            assert case.name in union.log()


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.kernel_too], ids=lambda case: case.id
)
@pytest.mark.parametrize("where", ["upper", "lower"])
def test_the_kernel_takes_a_mark_so(layers: HandmadeLayers, case: Case, where: str) -> None:
    top = layers.layer(*case.top)
    layers.layer(*BOTTOM)
    if where == "upper":
        layers.stack.remove(top)
        layers.upper.rmdir()
        top.rename(layers.upper)
    with layers.kernel() as root:
        check(root, case)
