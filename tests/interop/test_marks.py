"""Marks of every form, written by hand, as both PyUnion and kernel overlayfs have to read them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.conformance.tree import Node, build, directory, file, special
from tests.helpers.layers import HandmadeLayers
from tests.interop.views import contents

READERS = ("kernel", "union")


def whiteout(path: str) -> Node:
    return special(path, stat.S_IFCHR)


def xwhiteout(path: str) -> Node:
    return file(path, xattrs={"trusted.overlay.whiteout": b"y"})


def marked(path: str, **marks: bytes) -> Node:
    return directory(path, xattrs={f"trusted.overlay.{name}": mark for name, mark in marks.items()})


def metacopy(path: str, size: int, **marks: bytes) -> Node:
    """Return a file of `size` and no data, mode 600, whose data is another layer's."""
    found = {f"trusted.overlay.{name}": mark for name, mark in (("metacopy", b""), *marks.items())}
    return Node(path=os.fsencode(path), mode=stat.S_IFREG | 0o600, size=size, xattrs=found)


def read(layers: HandmadeLayers, reader: str, *options: str) -> dict[str, str | None]:
    mount = layers.kernel(*options) if reader == "kernel" else layers.union(*options)
    with mount as root:
        return contents(root)


pytestmark = pytest.mark.parametrize("reader", READERS)


def test_whiteouts_hide_files_and_trees(layers: HandmadeLayers, reader: str) -> None:
    layers.layer(whiteout("f"), whiteout("d"), whiteout("m/x"), file("m/new", b"n"))
    layers.layer(file("f", b"f"), file("d/a/b", b"b"), file("m/x", b"x"), file("m/y", b"y"))
    assert read(layers, reader) == {"m": None, "m/new": "n", "m/y": "y"}


def test_a_whiteout_hides_only_what_lies_beneath_it(layers: HandmadeLayers, reader: str) -> None:
    layers.layer(file("d/top", b"t"))
    layers.layer(whiteout("d"))
    layers.layer(file("d/bottom", b"b"))
    assert read(layers, reader) == {"d": None, "d/top": "t"}


def test_a_file_stops_the_merging_of_directories(layers: HandmadeLayers, reader: str) -> None:
    layers.layer(file("d/top", b"t"))
    layers.layer(file("d", b"a file"))
    layers.layer(file("d/bottom", b"b"))
    assert read(layers, reader) == {"d": None, "d/top": "t"}


def test_an_opaque_directory_hides_all_layers_beneath(layers: HandmadeLayers, reader: str) -> None:
    layers.layer(file("d/one", b"1"))
    layers.layer(marked("d", opaque=b"y"), file("d/two", b"2"))
    layers.layer(file("d/three", b"3"))
    layers.layer(file("d/four", b"4"))
    assert read(layers, reader) == {"d": None, "d/one": "1", "d/two": "2"}


def test_nested_opaque_directories(layers: HandmadeLayers, reader: str) -> None:
    layers.layer(marked("d", opaque=b"y"), marked("d/e", opaque=b"y"), file("d/e/new", b"n"))
    layers.layer(file("d/e/old", b"o"), file("d/f", b"f"))
    assert read(layers, reader) == {"d": None, "d/e": None, "d/e/new": "n"}


def test_xwhiteouts_in_a_directory_marked_x(layers: HandmadeLayers, reader: str) -> None:
    layers.layer(marked("d", opaque=b"x"), xwhiteout("d/gone"), file("d/new", b"n"), file("d/e"))
    layers.layer(file("d/gone", b"g"), file("d/stays", b"s"))
    layers.layer(file("d/gone", b"g"))
    assert read(layers, reader) == {"d": None, "d/new": "n", "d/e": "", "d/stays": "s"}


def test_xwhiteouts_in_the_root_of_a_layer(layers: HandmadeLayers, reader: str) -> None:
    layers.layer(marked("", opaque=b"x"), xwhiteout("gone"))
    layers.layer(file("gone/a", b"g"), file("stays", b"s"))
    assert read(layers, reader) == {"stays": "s"}


def test_a_relative_redirect(layers: HandmadeLayers, reader: str) -> None:
    layers.layer(marked("d/new", redirect=b"old"), file("d/new/more", b"m"), whiteout("d/old"))
    layers.layer(file("d/old/f", b"f"))
    assert read(layers, reader) == {
        "d": None,
        "d/new": None,
        "d/new/f": "f",
        "d/new/more": "m",
    }


def test_an_absolute_redirect(layers: HandmadeLayers, reader: str) -> None:
    layers.layer(marked("a/new", redirect=b"/x/y/old"), whiteout("x/y/old"))
    layers.layer(file("x/y/old/f", b"f"), file("x/y/g", b"g"))
    assert read(layers, reader) == {
        "a": None,
        "a/new": None,
        "a/new/f": "f",
        "x": None,
        "x/y": None,
        "x/y/g": "g",
    }


def test_a_redirect_inside_a_redirected_directory(layers: HandmadeLayers, reader: str) -> None:
    layers.layer(
        marked("m", redirect=b"d"),
        marked("m/tub", redirect=b"sub"),
        whiteout("m/sub"),
        whiteout("d"),
    )
    layers.layer(file("d/sub/z", b"z"), file("d/x", b"x"))
    assert read(layers, reader) == {"m": None, "m/tub": None, "m/tub/z": "z", "m/x": "x"}


def test_redirects_over_several_layers(layers: HandmadeLayers, reader: str) -> None:
    layers.layer(marked("c", redirect=b"b"), whiteout("b"), file("c/3", b"3"))
    layers.layer(marked("b", redirect=b"a"), whiteout("a"), file("b/2", b"2"))
    layers.layer(file("a/1", b"1"))
    assert read(layers, reader) == {"c": None, "c/1": "1", "c/2": "2", "c/3": "3"}


def test_a_redirect_goes_through_layers_that_lack_it(layers: HandmadeLayers, reader: str) -> None:
    layers.layer(marked("n", redirect=b"/d/old"), whiteout("d/old"))
    layers.layer(file("other", b"o"))
    layers.layer(file("d/old/one", b"1"))
    layers.layer(file("d/old/two", b"2"))
    assert read(layers, reader) == {
        "d": None,
        "n": None,
        "n/one": "1",
        "n/two": "2",
        "other": "o",
    }


def test_two_directories_that_changed_names(layers: HandmadeLayers, reader: str) -> None:
    layers.layer(marked("a", redirect=b"b"), marked("b", redirect=b"a"))
    layers.layer(file("a/of-a", b"a"), file("b/of-b", b"b"))
    assert read(layers, reader) == {"a": None, "a/of-b": "b", "b": None, "b/of-a": "a"}


def test_an_opaque_layer_beneath_a_redirect_ends_it(layers: HandmadeLayers, reader: str) -> None:
    layers.layer(marked("n", redirect=b"d"), whiteout("d"))
    layers.layer(marked("d", opaque=b"y"), file("d/one", b"1"))
    layers.layer(file("d/two", b"2"))
    assert read(layers, reader) == {"n": None, "n/one": "1"}


def test_a_metacopy_takes_its_data_from_the_same_path(layers: HandmadeLayers, reader: str) -> None:
    layers.layer(metacopy("d/f", 4))
    layers.layer(file("other"))
    layers.layer(file("d/f", b"data"))
    assert read(layers, reader, "metacopy=on") == {"d": None, "d/f": "data", "other": ""}


def test_metacopies_over_metacopies(layers: HandmadeLayers, reader: str) -> None:
    layers.layer(metacopy("f", 4))
    layers.layer(metacopy("f", 4))
    layers.layer(file("f", b"data"))
    assert read(layers, reader, "metacopy=on") == {"f": "data"}


def test_a_metacopy_with_an_absolute_redirect(layers: HandmadeLayers, reader: str) -> None:
    layers.layer(metacopy("new", 4, redirect=b"/d/old"), whiteout("d/old"))
    layers.layer(file("d/old", b"data"))
    assert read(layers, reader, "metacopy=on") == {"d": None, "new": "data"}


def test_a_metacopy_with_a_relative_redirect(layers: HandmadeLayers, reader: str) -> None:
    layers.layer(metacopy("d/new", 4, redirect=b"old"), whiteout("d/old"))
    layers.layer(file("d/old", b"data"))
    assert read(layers, reader, "metacopy=on") == {"d": None, "d/new": "data"}


def test_a_metacopy_in_a_redirected_directory(layers: HandmadeLayers, reader: str) -> None:
    layers.layer(marked("n", redirect=b"d"), metacopy("n/f", 4), whiteout("d"))
    layers.layer(file("d/f", b"data"))
    assert read(layers, reader, "metacopy=on") == {"n": None, "n/f": "data"}


def test_a_metacopy_in_a_redirected_directory_of_a_lower(
    layers: HandmadeLayers, reader: str
) -> None:
    layers.layer(file("top"))
    layers.layer(marked("n", redirect=b"d"), metacopy("n/f", 4), whiteout("d"))
    layers.layer(file("d/f", b"data"))
    assert read(layers, reader, "metacopy=on") == {"n": None, "n/f": "data", "top": ""}


@pytest.mark.parametrize("writable", [False, True])
def test_a_relative_redirect_leads_to_nothing_that_its_directory_hides(
    layers: HandmadeLayers, reader: str, writable: bool
) -> None:
    top = [
        marked("", impure=b"y"),
        *(marked("d", opaque=b"y"), marked("d/new", redirect=b"old"), file("d/new/f", b"f")),
        *(marked("m", impure=b"y"), marked("m/new", redirect=b"old"), whiteout("m/old")),
        directory("d/old"),
    ]
    if writable:
        build(top, os.fsencode(layers.upper))
    else:
        layers.layer(*top)
    layers.layer(marked("m", opaque=b"y"), file("m/old/two", b"2"), directory("d"))
    layers.layer(file("d/old/hidden", b"h"), file("m/old/hidden", b"h"), file("m/one"))
    assert read(layers, reader) == {
        "d": None,
        "d/new": None,
        "d/new/f": "f",
        "d/old": None,
        "m": None,
        "m/new": None,
        "m/new/two": "2",
    }


@pytest.mark.parametrize("writable", [False, True])
@pytest.mark.parametrize("redirect", [{}, {"redirect": b"old"}])
def test_a_metacopy_takes_no_data_that_its_directory_hides(
    layers: HandmadeLayers, reader: str, writable: bool, redirect: dict[str, bytes]
) -> None:
    top = (marked("d", opaque=b"y"), metacopy("d/f", 4, **redirect))
    if writable:
        build(top, os.fsencode(layers.upper))
    else:
        layers.layer(*top)
    layers.layer(file("d/f", b"data"), file("d/old", b"data"))
    options = "metacopy=on"
    kernel = reader == "kernel"
    with layers.kernel(options) if kernel else layers.union(options, quiet=False) as root:
        with pytest.raises(OSError, match=r"Input/output error"):
            (root / "d/f").stat()
        assert os.listdir(root / "d") == ["f"]


@pytest.mark.parametrize("writable", [False, True])
@pytest.mark.parametrize("between", ["whiteout", "xwhiteout", "directory", "opaque"])
def test_a_metacopy_takes_no_data_from_beneath_what_ends_the_search(
    layers: HandmadeLayers, reader: str, writable: bool, between: str
) -> None:
    if writable:
        build([metacopy("d/f", 4)], os.fsencode(layers.upper))
    else:
        layers.layer(metacopy("d/f", 4))
    ends = {
        "whiteout": (whiteout("d/f"),),
        "xwhiteout": (marked("d", opaque=b"x"), xwhiteout("d/f")),
        "directory": (directory("d/f"),),
        "opaque": (marked("d", opaque=b"y"),),
    }
    layers.layer(*ends[between])
    layers.layer(file("d/f", b"data"))
    options = "metacopy=on"
    kernel = reader == "kernel"
    mount = layers.kernel(options) if kernel else layers.union(options, quiet=False)
    with mount as root, pytest.raises(OSError, match=r"Input/output error"):
        (root / "d/f").stat()


@pytest.mark.parametrize("size", [4, 5000, 1 << 20])
def test_a_metacopy_in_the_lowest_layer_has_no_data_to_show(
    layers: HandmadeLayers, reader: str, size: int
) -> None:
    layers.layer(file("other"))
    layers.layer(metacopy("f", size), Node(path=b"hole", mode=stat.S_IFREG | 0o600, size=size))
    options = "metacopy=on"
    kernel = reader == "kernel"
    with layers.kernel(options) if kernel else layers.union(options, quiet=False) as root:
        for work in (Path.read_bytes, append_to):
            with pytest.raises(OSError, match=r"Input/output error"):
                work(root / "f")
        assert (root / "hole").read_bytes() == bytes(size)
        append_to(root / "hole")
        assert (root / "hole").read_bytes() == bytes(size) + b"more"
    assert not (layers.upper / "f").exists()


def append_to(path: Path) -> None:
    with open(path, "ab") as data:
        data.write(b"more")


def test_data_only_layers_show_through_metacopies_alone(
    layers: HandmadeLayers, reader: str
) -> None:
    layers.layer(
        metacopy("etc/one", 4, redirect=b"/ab/cd"),
        metacopy("etc/two", 3, redirect=b"/ef"),
        file("etc/own", b"own"),
    )
    layers.data(file("ab/cd", b"data"))
    layers.data(file("ef", b"two"), file("never-seen", b"n"))
    assert read(layers, reader, "metacopy=on") == {
        "etc": None,
        "etc/one": "data",
        "etc/own": "own",
        "etc/two": "two",
    }
