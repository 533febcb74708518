"""Steps taken from an image by its history and layers."""

from __future__ import annotations

from layerstore.oci.digest import Digest, chain_id, sha256_digest
from layerstore.oci.documents import HistoryEntry, ImageConfig
from mount_tools.build.cache_from import find_in_images
from mount_tools.build.made import Made
from tests.helpers.builds import Builds, cached
from tests.helpers.images import config_of, diff_id

BASE, TOP = diff_id({"base": b""}), diff_id({"top": b""})


def image(*steps: str) -> ImageConfig:
    config = config_of([BASE])
    for step in steps:
        entry = HistoryEntry("2024-01-01T00:00:00Z", step, empty_layer=step.startswith("ENV"))
        config = config.derive(entry, diff_id=None if entry.empty_layer else TOP)
    return config


def made(config: ImageConfig) -> Made:
    found = Made(config, config.chain[-1], "base", sha256_digest(b""))
    found.diff_ids, found.history = list(config.diff_ids), list(config.history)
    return found


def chain_of(*layers: Digest) -> Digest | None:
    chain = None
    for layer in layers:
        chain = chain_id(chain, layer)
    return chain


def test_the_next_step_is_found_if_all_before_is_the_same() -> None:
    whole = image("ENV a", "RUN b", "ENV c")
    assert find_in_images([whole], made(image()), "ENV a") is not None
    found = find_in_images([image("RUN z"), whole], made(image("ENV a")), "RUN b")
    assert found is not None
    assert (found.diff_id, found.chain) == (TOP, chain_of(BASE, TOP))
    last = find_in_images([whole], made(image("ENV a", "RUN b")), "ENV c")
    assert last is not None and last.diff_id is None and last.chain == chain_of(BASE, TOP)


def test_a_step_is_not_taken_if_anything_differs() -> None:
    whole = image("ENV a", "RUN b")
    assert find_in_images([whole], made(image()), "RUN b") is None
    assert find_in_images([whole], made(image("ENV x")), "RUN b") is None
    assert find_in_images([whole], made(image("ENV a")), "RUN c") is None
    assert find_in_images([whole], made(image("ENV a", "RUN b")), "RUN b") is None
    other = made(image("ENV a"))
    other.diff_ids = [TOP]
    assert find_in_images([whole], other, "RUN b") is None


def test_with_an_epoch_it_was_done_with_the_same() -> None:
    whole = image("ENV a")
    made_then = whole.history[-1].created_ns
    assert find_in_images([whole], made(image()), "ENV a", made_then) is not None
    assert find_in_images([whole], made(image()), "ENV a", made_then + 1) is None


def test_an_image_from_elsewhere_is_a_cache(builds: Builds) -> None:
    builds.write("FROM busy:1\nENV A=b\nRUN echo x > /x\nCOPY f /f\n", f="content")
    builds.ok()
    archive = str(builds.context.parent / "archive.tar")
    builds.containers.ok("save", "-o", archive, "made")
    builds.containers.ok("rmi", "made")
    builds.containers.ok("prune", "-f")
    builds.containers.ok("load", "-i", archive)
    assert cached(builds.ok(None, "--cache-from", "made")) == 3
    (builds.context / "f").write_text("other")
    assert cached(builds.ok(None, "--cache-from", "made")) == 2
