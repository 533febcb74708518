"""The exact archive from what lies unpacked, and what is said where that is damaged."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import pytest
import zstandard

from layerstore.errors import DigestMismatch, InvalidImage
from layerstore.layer.pack import pack
from layerstore.layer.tar_split import archive_size, assemble
from layerstore.tar.headers import format_sparse_map
from tests.helpers.mounts import require_root
from tests.helpers.reads import Reads
from tests.helpers.unions import fill
from tests.layerstore.archives import Site, file, folder, header, padded, pax_of, whole


def test_every_byte(site: Site) -> None:
    odd = header(b"odd", b"0", 3, uid=b"\x80\0\0\0\0\0\0\5", mode=0o100644)
    archive = whole(odd, b"abc" + b"\xaa" * 509, file(b".wh.x", b"content of a whiteout"))
    archive += b"\xbb" * 3000
    site.unpack(archive)
    site.check(archive)
    done = assemble(site.staging, None)
    assert done.diff_id == "sha256:" + hashlib.sha256(archive).hexdigest()
    assert done.size == archive_size(site.staging) == len(archive)


def test_files_larger_than_any_buffer(site: Site) -> None:
    content = os.urandom(1000) * 5000
    site.good(file(b"a", content), file(b"b", content[:-1]), file(b"c", b"x" * (1 << 20)))


def test_a_hole_is_not_read(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """To read a hole takes a processor longer than SHA-256, and fills the page cache."""
    content = bytes(20 << 20) + b"middle" + bytes(20 << 20) + b"end"
    records = {b"major": b"1", b"minor": b"0", b"name": b"b", b"realsize": b"%d" % (32 << 20)}
    sparse = pax_of({b"GNU.sparse." + key: value for key, value in records.items()})
    body = format_sparse_map([(1 << 20, (1 << 20) + 1)], 32 << 20) + b"x"
    parts = file(b"a", content), sparse, file(b"b", body)
    reads = Reads(monkeypatch)
    site.good(*parts)
    assert 0 < reads.size <= 1 << 20


def test_a_path_that_an_archive_holds_many_times(site: Site) -> None:
    parts = [file(b"d/a", b"%d" % number * 50) for number in range(30)]
    site.good(folder(b"d"), *parts, file(b"d", b"file"), folder(b"d"), *parts)
    assert (site.diff / "d/a").read_bytes() == b"29" * 50


def test_what_only_shows_comes_from_beneath(tmp_path: Path) -> None:
    require_root()
    layer, lower = tmp_path / "layer", tmp_path / "lower"
    (layer / "diff").mkdir(parents=True)
    lower.mkdir()
    fill(lower, {"old": {"file": "content", "deep": {"er": "more"}}})
    fill(layer / "diff", {"old": None, "new": {"own": "own"}})
    os.setxattr(layer / "diff/new", "trusted.overlay.redirect", b"old")
    out, again = io.BytesIO(), io.BytesIO()
    packed = pack(layer / "diff", [lower], out, privileged=True, record=layer)
    assert assemble(layer, again, lowers=[lower]).diff_id == packed.diff_id
    assert again.getvalue() == out.getvalue()


def damage(site: Site, change: bytes) -> None:
    (site.staging / "tar-split").write_bytes(change)


def test_a_damaged_tar_split(site: Site) -> None:
    site.good(file(b"a", b"x" * 2000))
    good = (site.staging / "tar-split").read_bytes()
    plain = zstandard.ZstdDecompressor().stream_reader(good).read(1 << 20)

    def packed(data: bytes) -> bytes:
        return zstandard.compress(data)

    for bad in (
        b"",
        good[: len(good) // 2],
        good[:-3] + b"xxx",
        packed(plain[:40]),
        packed(b"other\n" + plain),
        packed(plain[:20] + b"Z" + plain[20:]),
        packed(plain[:-1] + b"\1"),
        packed(plain[:20] + plain[-9:]),
    ):
        damage(site, bad)
        with pytest.raises(InvalidImage, match=r"tar-split .* is damaged"):
            assemble(site.staging, None)
    (site.staging / "tar-split").unlink()
    with pytest.raises(InvalidImage, match="is missing"):
        assemble(site.staging, None)


def test_damaged_files(site: Site) -> None:
    site.good(file(b"a", b"x" * 2000), file(b"b", b"y"))
    os.truncate(site.diff / "a", 5)
    with pytest.raises(DigestMismatch, match="“a” of a layer is shorter than it was"):
        assemble(site.staging, None)
    (site.diff / "a").unlink()
    (site.diff / "a").symlink_to("b")
    with pytest.raises(DigestMismatch, match=r"“a” of the layer .* cannot be read"):
        assemble(site.staging, None)
    (site.diff / "a").unlink()
    os.mkfifo(site.diff / "a")
    with pytest.raises(DigestMismatch, match="“a” of"):
        assemble(site.staging, None)


def test_padding_that_a_reader_ignores_is_kept(site: Site) -> None:
    archive = whole(header(b"a", b"0", 1), padded(b"x")) + bytes(40 << 20)
    site.unpack(archive)
    assert (site.staging / "tar-split").stat().st_size < 20_000
    site.check(archive)
