"""Docker's documents in OCI's media types."""

from __future__ import annotations

import json

import pytest

from layerstore.oci.digest import sha256_digest
from layerstore.oci.documents import (
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Manifest,
    parse_index,
)
from layerstore.registry.in_oci import in_oci, oci_type
from layerstore.registry.remote import Document
from tests.helpers.registries import LAYERS, MemoryRegistry


@pytest.mark.parametrize(
    ("docker", "oci"),
    [
        (DOCKER_MANIFEST, OCI_MANIFEST),
        (DOCKER_LAYER, OCI_LAYER),
        (f"{DOCKER_LAYER}.gzip", f"{OCI_LAYER}+gzip"),
        (f"{DOCKER_LAYER}.zstd", f"{OCI_LAYER}+zstd"),
        (
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        ),
        (OCI_CONFIG, OCI_CONFIG),
        ("x/y", "x/y"),
    ],
)
def test_types(docker: str, oci: str) -> None:
    assert oci_type(docker) == oci


def test_an_index_and_its_manifests_are_converted_together() -> None:
    registry = MemoryRegistry()
    one = registry.image(*LAYERS[:1], tags=(), annotations={"digest": "is a word too"})
    other = registry.image(*LAYERS[1:], tags=(), architecture="s390x")
    index = registry.index((one, "linux/amd64"), (other, "linux/s390x"))
    *children, top = in_oci([one, other, index])
    assert [child.media_type for child in children] == [OCI_MANIFEST] * 2
    assert top.media_type == OCI_INDEX == json.loads(top.data)["mediaType"]
    assert [entry.digest for entry in parse_index(top.data)] == [one.digest for one in children]
    assert [entry.platform for entry in parse_index(top.data)] == [
        entry.platform for entry in parse_index(index.data)
    ]
    for before, child in zip((one, other), children, strict=True):
        was, now = Manifest.parse(before.data), Manifest.parse(child.data)
        assert now.config.media_type == OCI_CONFIG and now.config.digest == was.config.digest
        assert [blob.media_type for blob in now.layers] == [f"{OCI_LAYER}+gzip"] * len(was.layers)
        assert [blob.digest for blob in now.layers] == [blob.digest for blob in was.layers]
    assert json.loads(children[0].data)["annotations"] == {"digest": "is a word too"}
    assert in_oci([*children, top]) == [*children, top], "nothing is left to convert"


def test_a_document_without_its_type_keeps_its_bytes() -> None:
    data = b'{"schemaVersion": 2, "manifests": []}'
    index = Document(data, OCI_INDEX, sha256_digest(data))
    assert in_oci([index]) == [index]
