"""pull: what is asked of a registry, what becomes of it, and what stays after a failure."""

from __future__ import annotations

import json
from typing import Any

import pytest

from layerstore import Store
from layerstore.errors import (
    DigestMismatch,
    InvalidImage,
    LimitExceeded,
    NotFound,
    SizeMismatch,
    StoreError,
    UnknownMediaType,
)
from layerstore.limits import Limits
from layerstore.oci.digest import Digest, sha256_digest
from layerstore.oci.platform import Platform
from layerstore.oci.reference import Reference
from layerstore.operations.check import check
from layerstore.progress import Progress, Status
from layerstore.registry.errors import Interrupted, ManifestUnknown
from layerstore.registry.pull import Pulled, pull_all, pull_image
from layerstore.registry.transfer import PLAIN
from tests.helpers.registries import LAYERS, REPOSITORY, MemoryRegistry, plain_layer
from tests.layerstore.archives import file, whole

NAME = Reference(REPOSITORY, "latest")


@pytest.fixture
def registry() -> MemoryRegistry:
    return MemoryRegistry()


def pull(
    store: Store, registry: MemoryRegistry, platform: Platform | None = None, **how: Any
) -> Pulled:
    return pull_image(store, registry, NAME, platform=platform, transfer=PLAIN._replace(**how))


def is_clean(store: Store) -> bool:
    return check(store) == []


def blobs_asked(registry: MemoryRegistry) -> list[str]:
    return [line for line in registry.asked if line.startswith("BLOB")]


def nothing_is_left(store: Store) -> bool:
    store.recover()
    empty = not store.images.all() and not store.layers.all() and not list(store.blobs.all())
    return empty and is_clean(store)


def test_an_image_is_pulled_as_it_is(store: Store, registry: MemoryRegistry) -> None:
    manifest = registry.image(*LAYERS)
    pulled = pull(store, registry)
    image = store.images.resolve("registry.test/team/app")
    assert pulled == Pulled(NAME, manifest.digest, image.id, True)
    assert image.tags == (NAME,)
    assert image.repo_digests == (Reference(REPOSITORY, None, manifest.digest),)
    assert [kept.data for kept in store.images.manifests(image)] == [manifest.data]
    chain = store.layers.chain(image.top)
    assert [layer.diff_id for layer in chain] == [sha256_digest(layer) for layer in LAYERS][::-1]
    assert (chain[0].diff / "etc" / "3").read_bytes().startswith(b"layer 3")
    for layer, listed in zip(chain[::-1], json.loads(manifest.data)["layers"], strict=True):
        (blob,) = store.layers.archives.of(layer.diff_id)
        assert (blob.digest, blob.size) == (listed["digest"], listed["size"])
        assert store.blobs.has(blob.digest)
        assert store.remote.places(blob.digest) == [REPOSITORY]
    assert store.partial.all() == [] and is_clean(store)


def test_an_image_that_is_here_costs_one_head(store: Store, registry: MemoryRegistry) -> None:
    registry.image(*LAYERS)
    first = pull(store, registry)
    registry.asked.clear()
    assert pull(store, registry) == first._replace(changed=False)
    assert registry.asked == ["HEAD latest"]


def test_a_registry_without_head_is_asked_by_get(store: Store, registry: MemoryRegistry) -> None:
    registry.image(*LAYERS)
    registry.heads = False
    assert pull(store, registry).changed
    registry.asked.clear()
    assert not pull(store, registry).changed
    assert registry.asked == ["HEAD latest", "GET latest"]


def test_a_layer_that_is_here_is_not_fetched(store: Store, registry: MemoryRegistry) -> None:
    registry.image(*LAYERS[:2], tags=("old",))
    pull_image(store, registry, Reference(REPOSITORY, "old"))
    new = registry.image(*LAYERS)
    registry.asked.clear()
    events: list[Progress] = []
    pull(store, registry, report=events.append)
    listed = [layer["digest"] for layer in json.loads(new.data)["layers"]]
    asked = " ".join(blobs_asked(registry))
    assert [digest in asked for digest in listed] == [False, False, True, True]
    said = [event.what for event in events if event.status is Status.ALREADY_EXISTS]
    assert said == [Digest(digest).short for digest in listed[:2]]


def test_a_tag_that_moved_names_the_new_image(store: Store, registry: MemoryRegistry) -> None:
    registry.image(*LAYERS[:1])
    old = pull(store, registry)
    registry.image(*LAYERS)
    new = pull(store, registry)
    assert new.changed and new.image != old.image
    assert store.images.resolve(str(NAME)).id == new.image
    assert store.images.get(old.image).tags == ()


def test_a_digest_is_pulled_without_a_tag(store: Store, registry: MemoryRegistry) -> None:
    kept = registry.image(*LAYERS)
    pulled = pull_image(store, registry, Reference(REPOSITORY, "latest", kept.digest))
    assert "latest" not in " ".join(registry.asked)
    image = store.images.get(pulled.image)
    assert image.tags == () and image.repo_digests[0].digest == kept.digest


def test_all_tags_are_pulled(store: Store, registry: MemoryRegistry) -> None:
    registry.image(*LAYERS[:1], tags=("1", "one"))
    registry.image(*LAYERS[:2], tags=("2",))
    pulled = pull_all(store, registry)
    assert [one.name.tag for one in pulled] == ["1", "2", "one"]
    assert len(store.images.all()) == 2


def test_a_plain_layer_is_not_kept_twice(store: Store, registry: MemoryRegistry) -> None:
    registry.image(*LAYERS[:2], pack=bytes)
    pulled = pull(store, registry)
    assert set(store.blobs.all()) == {pulled.digest, pulled.image}
    assert is_clean(store) and store.partial.all() == []


# -- platforms --


def test_the_index_is_kept_with_the_image_for_this_platform(
    store: Store, registry: MemoryRegistry
) -> None:
    mine = registry.image(*LAYERS[:1], tags=())
    other = registry.image(*LAYERS[1:2], tags=(), architecture="s390x")
    index = registry.index((other, "linux/s390x"), (mine, "linux/amd64"))
    pulled = pull(store, registry, platform=Platform("linux", "amd64"))
    assert pulled.digest == index.digest
    image = store.images.get(pulled.image)
    assert image.repo_digests == (Reference(REPOSITORY, None, index.digest),)
    assert [kept.data for kept in store.images.manifests(image)] == [mine.data]
    assert store.images.indexes(image) == [index.digest]
    assert store.blobs.read(index.digest) == index.data
    registry.asked.clear()
    second = pull(store, registry, platform=Platform("linux", "s390x"))
    assert second.changed and second.image != pulled.image
    assert registry.asked[:2] == ["HEAD latest", f"GET {other.digest}"], "the index is here"
    store.images.remove(str(image.id))
    assert store.blobs.has(index.digest), "the other image came from it too"
    assert is_clean(store)


def test_the_images_of_an_index_both_keep_its_digest(
    store: Store, registry: MemoryRegistry
) -> None:
    mine = registry.image(*LAYERS[:1], tags=())
    other = registry.image(*LAYERS[1:2], tags=(), architecture="s390x")
    index = registry.index((mine, "linux/amd64"), (other, "linux/s390x"))
    by_digest = Reference(REPOSITORY, None, index.digest)
    amd64, s390x = Platform("linux", "amd64"), Platform("linux", "s390x")
    first = pull(store, registry, platform=amd64)
    second = pull(store, registry, platform=s390x)
    for pulled in (first, second):
        assert store.images.get(pulled.image).repo_digests == (by_digest,)
    assert store.images.named(by_digest) == store.images.named(NAME) == second.image
    assert not pull(store, registry, platform=s390x).changed
    registry.asked.clear()
    assert pull(store, registry, platform=amd64) == first, "the tag moves back"
    assert registry.asked == ["HEAD latest"], "it is here"
    assert store.images.named(by_digest) == store.images.named(NAME) == first.image
    for platform, pulled in ((s390x, second), (amd64, first)):
        again = pull_image(store, registry, by_digest, platform=platform)
        assert (again.image, again.changed) == (pulled.image, True)
        assert not pull_image(store, registry, by_digest, platform=platform).changed
    assert is_clean(store)


def test_a_platform_that_is_missing_is_told_with_those_there_are(
    store: Store, registry: MemoryRegistry
) -> None:
    mine = registry.image(*LAYERS[:1], tags=())
    registry.index((mine, "linux/amd64"), (mine, "linux/arm/v7"), (mine, "unknown/unknown"))
    with pytest.raises(
        NotFound,
        match=r"linux/s390x .*there are: linux/amd64, linux/arm/v7$",
    ):
        pull(store, registry, platform=Platform("linux", "s390x"))
    assert nothing_is_left(store)


def test_an_image_for_another_platform_than_asked_is_refused(
    store: Store, registry: MemoryRegistry
) -> None:
    registry.image(*LAYERS[:1])
    wanted = Platform("linux", "arm64", "v8")
    with pytest.raises(NotFound, match="wanted linux/arm64/v8, actual: linux/amd64"):
        pull(store, registry, platform=wanted)
    assert nothing_is_left(store)
    pull(store, registry)
    with pytest.raises(NotFound, match="wanted linux/arm64/v8"):
        pull(store, registry, platform=wanted)


def test_indexes_nested_without_end_are_refused(store: Store, registry: MemoryRegistry) -> None:
    inner = registry.image(*LAYERS[:1], tags=())
    for _ in range(6):
        inner = registry.index((inner, "linux/amd64"))
    with pytest.raises(InvalidImage, match="nested more than 4 deep"):
        pull(store, registry, platform=Platform("linux", "amd64"))


# -- what is no image --


def test_what_is_no_image_is_refused(store: Store, registry: MemoryRegistry) -> None:
    config = {"mediaType": "application/vnd.cncf.helm.config.v1+json", "size": 2}
    registry.image(config={**config, "digest": registry.blob(b"{}")})
    with pytest.raises(
        UnknownMediaType, match=r"not an image that can run: it is of the type .*helm"
    ):
        pull(store, registry)
    registry.manifest(b"{}", "application/vnd.docker.distribution.manifest.v1+prettyjws", "latest")
    with pytest.raises(UnknownMediaType, match="schema 1"):
        pull(store, registry)
    with pytest.raises(ManifestUnknown):
        pull_image(store, registry, Reference(REPOSITORY, "nowhere"))
    assert nothing_is_left(store)


def test_the_number_of_layers_is_that_of_the_configuration(
    store: Store, registry: MemoryRegistry
) -> None:
    registry.image(*LAYERS, layers=[])
    with pytest.raises(InvalidImage, match="layers length mismatch: expected 4, got 0"):
        pull(store, registry)
    assert nothing_is_left(store)


def test_the_addresses_of_a_foreign_layer_are_not_asked(
    store: Store, registry: MemoryRegistry
) -> None:
    entry = {
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "size": 9,
        "digest": sha256_digest(b"elsewhere"),
        "urls": ["http://127.0.0.1:1/x"],
    }
    registry.image(LAYERS[0], layers=[entry])
    with pytest.raises(NotFound, match="is foreign"):
        pull(store, registry)
    assert nothing_is_left(store)


# -- a registry that lies --


@pytest.mark.parametrize("number", [0, 3])
@pytest.mark.parametrize(
    ("lie", "error"),
    [
        (lambda data: b"x" + data[1:], DigestMismatch),
        (lambda data: data[:-1] + b"x", DigestMismatch),
        (lambda data: data[:-5], SizeMismatch),
        (lambda data: data + b"more", SizeMismatch),
        (lambda data: b"", SizeMismatch),
    ],
    ids=["first", "last", "short", "long", "empty"],
)
def test_a_blob_that_is_not_as_announced_is_refused(
    store: Store, registry: MemoryRegistry, lie: object, error: type[StoreError], number: int
) -> None:
    kept = registry.image(*LAYERS)
    digest = json.loads(kept.data)["layers"][number]["digest"]
    right = registry.blobs[digest]
    registry.blobs[digest] = lie(right)  # type: ignore[operator]
    with pytest.raises(error, match=f"^{REPOSITORY} holds .*{digest}.*pull again"):
        pull(store, registry)
    assert nothing_is_left(store)
    registry.blobs[digest] = right
    pull(store, registry)
    assert is_clean(store)


def test_a_layer_of_another_diff_id_is_refused(store: Store, registry: MemoryRegistry) -> None:
    good = json.loads(registry.image(*LAYERS).data)
    other = json.loads(registry.image(LAYERS[0], LAYERS[0]).data)
    registry.image(*LAYERS, layers=[*good["layers"][:3], other["layers"][0]])
    with pytest.raises(DigestMismatch, match=r"invalid diffID for layer 3.* pushed again"):
        pull(store, registry)
    assert nothing_is_left(store)


def test_what_is_no_tar_is_refused(store: Store, registry: MemoryRegistry) -> None:
    registry.image(LAYERS[0], b"no tar at all" * 100)
    with pytest.raises(InvalidImage):
        pull(store, registry)
    assert nothing_is_left(store)


@pytest.mark.parametrize("limits", [Limits(size=1 << 20), Limits(ratio=100, ratio_from=1 << 20)])
def test_a_bomb_is_refused(store: Store, registry: MemoryRegistry, limits: Limits) -> None:
    registry.image(whole(file(b"zeros", bytes(4 << 20))))
    with pytest.raises(LimitExceeded):
        pull(store, registry, limits=limits)
    assert nothing_is_left(store)


def test_a_config_that_is_not_as_announced_is_refused(
    store: Store, registry: MemoryRegistry
) -> None:
    kept = registry.image(*LAYERS)
    digest = json.loads(kept.data)["config"]["digest"]
    for lie in (b"{}", registry.blobs[digest] + b" ", b"x" * len(registry.blobs[digest])):
        registry.blobs[digest] = lie
        with pytest.raises((DigestMismatch, SizeMismatch)):
            pull(store, registry)
    assert nothing_is_left(store)


# -- interruptions --


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_an_interrupted_pull_goes_on_where_it_stopped(
    store: Store, registry: MemoryRegistry, ranges: bool
) -> None:
    registry.ranges = ranges
    kept = registry.image(*LAYERS[:1], plain_layer(9, 100_000), pack=lambda data: _stored(data))
    digests = [layer["digest"] for layer in json.loads(kept.data)["layers"]]
    registry.step = 1000
    registry.cuts[digests[1]] = 50_000
    with pytest.raises(Interrupted):
        pull(store, registry, parallel=1)
    assert nothing_is_left(store) and len(store.partial.all()) == 2
    registry.cuts.clear()
    registry.asked.clear()
    pull(store, registry)
    assert blobs_asked(registry)[-1] == f"BLOB {digests[1]} 50000"
    assert digests[0] not in " ".join(registry.asked), "what was whole is not fetched again"
    assert is_clean(store) and store.partial.all() == []


@pytest.mark.parametrize("size", [10, 50_000, 10**6])
def test_wrong_remains_are_replaced(store: Store, registry: MemoryRegistry, size: int) -> None:
    kept = registry.image(plain_layer(9, 100_000), pack=lambda data: _stored(data))
    digest = Digest(json.loads(kept.data)["layers"][0]["digest"])
    (store.root / "partial" / digest.encoded).write_bytes(b"x" * size)
    pull(store, registry)
    assert is_clean(store) and store.partial.all() == []


def test_a_whole_download_is_not_fetched_again(store: Store, registry: MemoryRegistry) -> None:
    kept = registry.image(LAYERS[0])
    digest = Digest(json.loads(kept.data)["layers"][0]["digest"])
    (store.root / "partial" / digest.encoded).write_bytes(registry.blobs[digest])
    pull(store, registry)
    assert digest not in " ".join(registry.asked) and is_clean(store)


def _stored(data: bytes) -> bytes:
    """Pack without making it smaller."""
    import gzip

    return gzip.compress(data, compresslevel=0)
