"""Documents of images: what is read, what is refused, what is written."""

from __future__ import annotations

import json

import pytest

from layerstore.errors import InvalidImage, LimitExceeded, UnknownMediaType
from layerstore.oci.digest import chain_id, sha256_digest
from layerstore.oci.documents import (
    DOCKER_MANIFEST,
    OCI_MANIFEST,
    Descriptor,
    HistoryEntry,
    ImageConfig,
    Manifest,
    parse_index,
)
from tests.helpers.images import config_of, some_digest

A, B = some_digest("a"), some_digest("b")


def test_bytes_are_kept_as_they_came() -> None:
    data = b'{ "os":"linux", "future" : {"x": [1.50]},\n "rootfs":{"diff_ids":[],"type":"layers"}}'
    config = ImageConfig.parse(data)
    assert config.data == data
    assert config.id == sha256_digest(data)
    assert config.fields["future"] == {"x": [1.5]}
    assert config.architecture == "" and config.os == "linux"


def test_chain_and_history() -> None:
    config = config_of([A, B])
    assert config.diff_ids == (A, B)
    assert config.chain == (A, chain_id(A, B))
    assert [entry.created_by for entry in config.history] == ["layer 0", "layer 1"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{",
        b"\xff\xfe",
        b'{"rootfs":{"diff_ids":["../../etc"]}}',
        b'{"rootfs":{"diff_ids":"x"}}',
        b'{"rootfs":[]}',
        b'{"rootfs":{"type":"squashfs","diff_ids":[]}}',
        b'{"history":{}}',
        b'{"history":["x"]}',
        b'{"config":[1]}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_what_is_no_configuration_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidImage):
        ImageConfig.parse(data)


def test_document_without_end_is_refused() -> None:
    with pytest.raises(LimitExceeded):
        ImageConfig.parse(b" " * (9 << 20))


def test_derived_configuration_keeps_what_it_does_not_know() -> None:
    base = config_of([A], future={"x": "y"}, container="abc", author="first")
    entry = HistoryEntry("2025-01-01T00:00:00Z", "sh", "", "why")
    derived = base.derive(entry, diff_id=B, config={"Cmd": ["sh"]})
    assert derived.diff_ids == (A, B)
    assert derived.history[-1] == entry and len(derived.history) == 2
    assert derived.fields["future"] == {"x": "y"}
    assert "container" not in derived.fields and derived.author == ""
    assert derived.config == {"Cmd": ["sh"]} and derived.comment == "why"
    assert derived.created == "2025-01-01T00:00:00Z"
    empty = derived.derive(HistoryEntry(empty_layer=True), diff_id=None)
    assert empty.diff_ids == (A, B) and empty.history[-1].empty_layer
    assert empty.config == {"Cmd": ["sh"]}


def test_time_written_wrongly_does_not_hide_the_image() -> None:
    assert config_of([], created="last week").created_ns == 0


def test_manifest_is_read_back_as_written() -> None:
    config = Descriptor("application/vnd.oci.image.config.v1+json", A, 5)
    layer = Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", B, 7, {"k": "v"})
    written = Manifest.of(config, (layer,))
    assert Manifest.parse(written.data) == written
    assert written.digest == sha256_digest(written.data)


def manifest(**changes: object) -> bytes:
    entry = {"mediaType": "x", "digest": A, "size": 1}
    return json.dumps({"schemaVersion": 2, "config": entry, "layers": [entry], **changes}).encode()


def test_manifest_takes_its_type_from_outside_where_it_does_not_say() -> None:
    assert Manifest.parse(manifest(), DOCKER_MANIFEST).media_type == DOCKER_MANIFEST
    assert Manifest.parse(manifest()).media_type == OCI_MANIFEST


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"manifests": []}, InvalidImage),
        ({"schemaVersion": 1}, UnknownMediaType),
        ({"mediaType": "text/html"}, UnknownMediaType),
        ({"layers": {}}, InvalidImage),
        ({"config": None}, InvalidImage),
        ({"layers": [{"mediaType": "x", "digest": A, "size": -1}]}, InvalidImage),
        ({"layers": [{"mediaType": "x", "digest": "x", "size": 1}]}, InvalidImage),
        ({"layers": [{"mediaType": "x", "digest": A, "size": True}]}, InvalidImage),
    ],
)
def test_what_is_no_manifest_is_refused(changes: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        Manifest.parse(manifest(**changes))


def test_a_manifest_of_schema_1_is_refused_in_a_sentence() -> None:
    with pytest.raises(UnknownMediaType, match=r"^the manifest .* schema version 1, .* again"):
        Manifest.parse(b'{"schemaVersion": 1, "fsLayers": []}')


def test_index() -> None:
    entry = {"mediaType": OCI_MANIFEST, "digest": A, "size": 1, "platform": {"os": "linux"}}
    data = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    assert parse_index(data) == (Descriptor(OCI_MANIFEST, A, 1, platform={"os": "linux"}),)
    with pytest.raises(InvalidImage):
        parse_index(manifest(manifests=[]))


def test_half_a_surrogate_pair_is_read_as_go_reads_it() -> None:
    data = rb'{"architecture": "a\ud800", "os": "\uDCff\ud83d\ude00\\ud800", "author": "\u00e9"}'
    config = ImageConfig.parse(data)
    assert config.data == data
    assert (config.architecture, config.os) == ("a\ufffd", "\ufffd\U0001f600\\ud800")
    assert config.author == "\u00e9"
    with pytest.raises(InvalidImage, match="not JSON"):
        ImageConfig.parse(b'{"os": "\xed\xa0\x80"}')


def test_what_is_no_utf_8_is_written_as_go_writes_it() -> None:
    assert ImageConfig.of({"author": "\udcff\u00e9"}).author == "\ufffd\u00e9"
