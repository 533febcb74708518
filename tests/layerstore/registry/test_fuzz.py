"""Manifests, indexes and names of any shape: what a registry or a user may write."""

from __future__ import annotations

import json

from hypothesis import example, given, settings
from hypothesis import strategies as st

from layerstore.errors import InvalidReference, StoreError
from layerstore.oci.digest import sha256_digest
from layerstore.oci.documents import (
    DOCKER_CONFIG,
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
)
from layerstore.oci.platform import Platform
from layerstore.oci.reference import familiar, parse_reference
from layerstore.registry.choice import choose, parse_config
from layerstore.registry.headers import Headers
from layerstore.registry.host_client import Reply
from layerstore.registry.remote import Document
from layerstore.registry.repository import checked_document
from tests.helpers.effort import examples

WANTED = Platform("linux", "amd64")
TYPES = (OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST, DOCKER_CONFIG, "x/y", "")
DIGEST = "sha256:" + "0" * 64
FIELDS = (
    *("schemaVersion", "mediaType", "manifests", "config", "layers", "digest", "size", "urls"),
    *("platform", "os", "architecture", "variant", "annotations", "rootfs", "diff_ids", "history"),
)
PLAIN = (
    st.none()
    | st.booleans()
    | st.sampled_from([0, 2, -1, 1 << 70, DIGEST, "amd64", "linux", *TYPES])
    | st.text(max_size=5)
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6)
    ),
    max_leaves=15,
)
ENTRIES = st.fixed_dictionaries(
    {"mediaType": st.sampled_from(TYPES), "digest": st.just(DIGEST), "size": st.just(2)},
    optional={"platform": VALUES, "urls": VALUES, "annotations": VALUES},
)
INDEXES = st.fixed_dictionaries(
    {"schemaVersion": st.just(2), "manifests": st.lists(ENTRIES | VALUES, max_size=4)},
    optional={"mediaType": PLAIN, "config": VALUES},
)
MANIFESTS = st.fixed_dictionaries(
    {
        "schemaVersion": st.just(2),
        "config": ENTRIES | VALUES,
        "layers": st.lists(ENTRIES | VALUES, max_size=4) | VALUES,
    },
    optional={"mediaType": PLAIN, "manifests": VALUES},
)
DOCUMENTS = (VALUES | INDEXES | MANIFESTS).map(lambda value: json.dumps(value).encode())


def said(error: StoreError) -> None:
    """An error is one short sentence."""
    assert str(error) and "\n" not in str(error) and len(str(error)) < 2000


@settings(max_examples=examples(60), deadline=None)
@given(DOCUMENTS | st.binary(max_size=50), st.sampled_from(TYPES), DOCUMENTS, DOCUMENTS)
def test_documents(data: bytes, kind: str, inner: bytes, config: bytes) -> None:
    def get(entry: Descriptor) -> Document:
        return Document(inner, entry.media_type, entry.digest)

    try:
        headers = Headers([("Content-Type", kind)])
        top = checked_document(Reply(200, headers, data, ""), "r.example", "latest")
        assert top.data == data and top.digest == sha256_digest(data)
        chosen = choose(top, WANTED, get)
        _, diff_ids = parse_config(config, chosen.manifest)
        assert len(diff_ids) == len(chosen.manifest.layers)
    except StoreError as error:
        said(error)


NAMES = st.text(alphabet="aZ0./:@_-[] \n\0ä", max_size=30) | st.lists(
    st.sampled_from(
        [
            *("docker.io", "library", "localhost", "host:5000", "[::1]:5000", "a", "A", ".."),
            *("x__y", "/", "/", ":", ":", "@", DIGEST, "sha512:00", "latest", "-", "a" * 130),
        ]
    ),
    max_size=8,
).map("".join)


@settings(max_examples=examples(200), deadline=None)
@given(NAMES | st.text(max_size=20))
@example("docker.io/docker.io/docker.io")
def test_names(text: str) -> None:
    try:
        found = parse_reference(text)
    except InvalidReference as error:
        said(error)
        return
    assert parse_reference(str(found)) == found
    assert parse_reference(familiar(found)) == found
    assert found.path and "/" not in found.domain
