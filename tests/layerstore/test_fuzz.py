"""Archives altered at random: what is wrong with them is said, and nothing outside is touched."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layerstore.archive.load import load
from layerstore.errors import StoreError
from layerstore.limits import Limits
from layerstore.store import Store
from layerstore.tar.compression import open_decompressed
from layerstore.tar.headers import NewEntry, format_entry
from tests.helpers.effort import examples
from tests.layerstore.archives import (
    END,
    Site,
    extended,
    file,
    folder,
    hardlink,
    header,
    pax,
    symlink,
    whole,
    with_sum,
)

LIMITS = Limits(entries=2000, size=1 << 22, ratio_from=1 << 20)
QUIET = settings(
    max_examples=examples(150),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

# Few names, so that entries meet, and each with a way to somewhere else.
PARTS = st.sampled_from([b"a", b"b", b"l", b"..", b".", b"", b".wh.a", b".wh..wh..opq", b".wh."])
PSEUDO = st.sampled_from(
    [b".wh..wh.plnk", b".wh..wh.plnk/1", b".wh..wh.plnk/2", b"a/../b", b"x/.."]
)
PATHS = st.lists(PARTS, min_size=1, max_size=4).map(b"/".join) | PSEUDO
TARGETS = st.one_of(
    PATHS,
    st.sampled_from([b"/", b"/etc/passwd", b"../../outside", b"..", b"l", b"../outside/victim"]),
)
ENTRIES = st.one_of(
    st.builds(file, PATHS, st.binary(max_size=600)),
    st.builds(folder, PATHS),
    st.builds(symlink, PATHS, TARGETS),
    st.builds(hardlink, PATHS, TARGETS),
    st.builds(header, PATHS, st.sampled_from([b"3", b"4", b"6"])),
    st.builds(lambda path, entry: pax(path=path) + entry, PATHS, st.builds(file, PATHS)),
    st.builds(
        lambda path, name, value: format_entry(
            NewEntry(name=path, kind=b"5", mode=0o755, xattrs=[(name, value)])
        ),
        PATHS,
        st.sampled_from([b"trusted.overlay.opaque", b"user.overlay.redirect", b"user.x"]),
        st.binary(max_size=9),
    ),
)


@contextmanager
def a_site() -> Iterator[Site]:
    with tempfile.TemporaryDirectory() as name:
        yield Site(Path(name))


def said(error: StoreError) -> None:
    text = str(error)
    assert text and "\n" not in text and len(text) < 1000, text


def try_to_unpack(archive: bytes) -> None:
    with a_site() as site:
        try:
            site.unpack(archive, limits=LIMITS)
        except StoreError as error:
            said(error)
        else:
            site.check(archive)


@QUIET
@given(st.lists(ENTRIES, max_size=8))
def test_entries_in_any_order(entries: list[bytes]) -> None:
    try_to_unpack(whole(*entries))


SEEDS = [
    whole(
        folder(b"d"),
        pax(path=b"d/" + b"long" * 40, mtime=b"1.5"),
        file(b"x", b"content" * 100),
        hardlink(b"h", b"d/" + b"long" * 40),
        symlink(b"l", b"d"),
        file(b"l/inside", b"x"),
        file(b"d/.wh.gone"),
        header(b"dev", b"3", device=(1, 3)),
    ),
    whole(
        extended(b"long name\0", b"L"),
        file(b"short", b"y"),
        extended(b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n27 GNU.sparse.realsize=99\n"),
        file(b"s", b"1\n5\n5\n".ljust(512, b"\0") + b"hello"),
    ),
]


@QUIET
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 9000), st.binary(min_size=1, max_size=12)), max_size=6),
    st.booleans(),
    st.integers(0, 12_000),
)
def test_bytes_altered_anywhere(
    seed: bytes, changes: list[tuple[int, bytes]], mend: bool, end: int
) -> None:
    data = bytearray(seed)
    for at, new in changes:
        at %= len(data)
        data[at : at + len(new)] = new[: len(data) - at]
        if mend:
            # So that what was altered is looked at, and not just its checksum.
            block = at - at % 512
            data[block : block + 512] = with_sum(bytes(data[block : block + 512]))
    try_to_unpack(bytes(data[:end] if end < 6000 else data))


@QUIET
@given(st.binary(max_size=3000))
def test_no_archive_at_all(data: bytes) -> None:
    try_to_unpack(data)


@QUIET
@given(
    st.sampled_from([b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"BZh9"]),
    st.binary(max_size=500),
)
def test_streams_that_only_begin_as_packed(magic: bytes, data: bytes) -> None:
    try:
        open_decompressed(io.BytesIO(magic + data), LIMITS).readall()
    except StoreError as error:
        said(error)


KEYS = [
    *("Config", "Layers", "RepoTags", "rootfs", "diff_ids", "type", "history", "config"),
    *(
        "schemaVersion",
        "manifests",
        "layers",
        "digest",
        "size",
        "mediaType",
        "annotations",
        "platform",
    ),
]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["c.json", "l", "../l", "/etc/passwd", "sha256:" + "0" * 64, "layers"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("fuzz") / "store", sync=False) as store:
        yield store


@QUIET
@given(
    st.dictionaries(st.sampled_from(["c.json", "l", "index.json", "oci-layout"]), VALUES), VALUES
)
def test_documents_of_any_shape(
    store: Store, documents: dict[str, object], manifest: object
) -> None:
    if not isinstance(manifest, dict) or "schemaVersion" not in manifest:
        manifest = [manifest, {"Config": "c.json", "Layers": ["l"]}]
    files = {**documents, "manifest.json": manifest}
    archive = b"".join(
        file(name.encode(), json.dumps(value).encode()) for name, value in files.items()
    )
    try:
        load(store, io.BytesIO(archive + END))
    except StoreError as error:
        said(error)
    assert os.listdir(store.staging.path) == []
